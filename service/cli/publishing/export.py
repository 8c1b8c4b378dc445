"""`batchproof export`: a bundle's graph for another server, in the layout that it reads.

  batchproof export models/penguins --to triton /srv/triton
  batchproof export models/penguins --to onnx penguins.onnx

`triton` writes NAME/ into a model repository of Triton Inference Server: config.pbtxt, VERSION/model.onnx, the class labels, warm-up
requests made from golden rows, bundle.json, which says how values become the graph's inputs, and a README. Requests of a
float32 model are never joined (max_batch_size 0); those of an exact model may be, since its bits do not depend on the batch.
`onnx` writes the graph alone.

Nothing is overwritten. Exit status: 0 written; 2 refused, in one sentence.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from batchproof.service.bundle import reader
from batchproof.service.cli.parts.parser import root
from batchproof.service.errors import USAGE, BundleError, printable, reason
from batchproof.service.inference.catalogue import roots
from batchproof.service.inference.catalogue.repository import naming


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("export", help="write a bundle's graph for Triton, or alone", description=__doc__)
    parser.add_argument("bundle", type=root, metavar="BUNDLE", help="models/NAME, models/NAME/VERSION, or an address")
    parser.add_argument("--to", choices=("triton", "onnx"), required=True, help="what reads the result")
    parser.add_argument("target", type=Path, metavar="TARGET", help="triton: a model repository; onnx: a file")
    parser.add_argument(
        "--device", choices=("cpu", "gpu"), default="cpu", help="triton: where it runs (default %(default)s)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    try:
        folder = roots.newest(options.bundle)
        with naming(folder):
            bundle = reader.read(folder)
        if options.to == "triton":
            from batchproof.service.cli.publishing import triton

            written = triton.write(bundle, options.target, options.device)
        else:
            written = options.target
            with written.open("xb") as file:
                file.write(bundle.model)
    except (BundleError, OSError) as error:
        sentence = reason(error)
        print(f"batchproof export: {printable(sentence)}", file=sys.stderr)
        return USAGE
    print(f"wrote {written}")
    return 0
