"""`batchproof bom`: a bundle's bill of materials, as CycloneDX with a model card.

  batchproof bom models/penguins/1 > penguins.cdx.json

It names every file with its SHA-256, the training data with theirs, the settings, the metrics on the test rows, and the
libraries that trained the model. Equal bundles have equal bills.

Exit status: 0 printed; 2 the bundle cannot be read.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from batchproof.service.bundle import reader
from batchproof.service.bundle.documents.bill_of_materials import bill_of_materials
from batchproof.service.errors import USAGE, BundleError


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("bom", help="print a bundle's bill of materials", description=__doc__)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the folder of one version, such as models/NAME/1")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    try:
        bundle = reader.read(arguments.bundle)
        raw = reader.file(bundle, "bundle.json")
    except BundleError as error:
        print(f"batchproof bom: {error}", file=sys.stderr)
        return USAGE
    print(json.dumps(bill_of_materials(bundle.manifest, hashlib.sha256(raw).hexdigest()), indent=2))
    return 0
