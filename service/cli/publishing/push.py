"""`batchproof push`: put a bundle where others fetch it from.

  batchproof push hf://company/churn models/churn --intended-use "Retention offers" --license apache-2.0
  batchproof push hf://company/churn@staging models/churn/3 --create private
  batchproof push s3://company-models/production models/churn
  batchproof push /srv/models s3://company-models/staging/churn

A folder and an object store (s3://, gs://, az://) get NAME/VERSION, as `batchproof serve --models` reads it. A version that is
there is never overwritten; bundle.json is written last, so an interrupted push leaves no bundle. The Hub gets one commit on the
branch, with the files of the bundle and its model card as README.md; it needs a token that may write, in HF_TOKEN or as
`hf auth login` stores it. Credentials of the other stores: docs/stores.md.

Exit status: 0 written, or there already; 2 refused, in one sentence.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from batchproof.service.cli.parts.parser import root
from batchproof.service.cli.publishing.card import add_statement, statement_of
from batchproof.service.configuration.address import Address
from batchproof.service.errors import USAGE, BundleError, printable
from batchproof.service.inference.catalogue import roots
from batchproof.service.inference.catalogue.repository import naming
from batchproof.service.stores.opening import needing_packages
from batchproof.service.stores.publishing.package import Package, package
from batchproof.service.stores.store import StoreError

ELSEWHERE = {
    "mlflow": "MLflow's registry takes batchproof-train --mlflow, or batchproof.mlflow.register in Python",
    "https": "a web server takes files by its own means: copy the folder, bundle.json last",
    "http": "a web server takes files by its own means: copy the folder, bundle.json last",
}


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "push", help="put a bundle into a folder, an object store or the Hub", description=__doc__
    )
    parser.add_argument(
        "target", type=root, metavar="TARGET",
        help="hf://OWNER/NAME[@BRANCH], s3://BUCKET/FOLDER, gs://…, az://…, or a folder of models",
    )  # fmt: skip
    parser.add_argument("bundle", type=root, metavar="BUNDLE", help="models/NAME, models/NAME/VERSION, or an address")
    parser.add_argument(
        "--create", choices=("private", "public"), help="hf://: create repository and branch where there are none"
    )
    add_statement(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    try:
        if isinstance(options.target, Address) and options.target.scheme in ELSEWHERE:
            raise StoreError(f"{options.target}: {ELSEWHERE[options.target.scheme]}")
        folder = roots.newest(options.bundle)
        with naming(folder):
            checked = package(folder)
        print(_push(checked, options))
    except BundleError as error:
        print(f"batchproof push: {printable(str(error))}", file=sys.stderr)
        return USAGE
    return 0


def _push(checked: Package, options: argparse.Namespace) -> str:
    target: Path | Address = options.target
    if isinstance(target, Path):
        from batchproof.service.stores.publishing import to_folder

        return to_folder.push(checked, target)
    with needing_packages(target):
        if target.scheme == "hf":
            from batchproof.service.stores.publishing import to_hub

            return to_hub.push(checked, target, statement_of(options), options.create)
        from batchproof.service.stores.publishing import to_objects

        return to_objects.push(checked, target)
