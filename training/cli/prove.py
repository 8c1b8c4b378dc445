"""`batchproof-train prove FILE.onnx`: prove from the file alone that it is exact, and show the certificate.

Exit status: 0 proved; 1 not proved, with the node and the reason; 2 there is nothing that could be: the file cannot
be read, is not as its manifest says, or the bundle is float32.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from google.protobuf.message import DecodeError

from batchproof.service.bundle import reader as bundle
from batchproof.service.cli.parser import Arguments
from batchproof.service.errors import USAGE, BundleError
from batchproof.service.inference import repository as models_folder
from batchproof.training.export.exact.optimiser import check_optimised
from batchproof.training.prove import ProofError, prove
from batchproof.training.prove.certificate import page
from batchproof.training.settings import SettingError


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    given = parser().parse_args(arguments)
    path: Path = given.path
    try:
        if path.is_dir():
            path = models_folder.newest(path) / "model.onnx"
            model = bundled(path.parent)
        else:
            model = path.read_bytes()
        found = prove(model)
        check_optimised(model)
    except (BundleError, SettingError) as error:
        return refused(f"{path}: {str(error).rstrip('.')}.", USAGE)
    except OSError as error:
        return refused(f"{path} cannot be read: {error.strerror}.", USAGE)
    except DecodeError:
        return refused(f"{path} is not an ONNX file.", USAGE)
    except ProofError as error:
        return refused(f"{path} is not proved: at {error}.", 1)
    print(json.dumps(found) if given.json else page(found))
    return 0


def bundled(folder: Path) -> bytes:
    """Return the model of a bundle whose files are as its manifest says; SettingError where it is float32."""
    found = bundle.read(folder)
    if found.manifest.arithmetic.kind != "exact":
        raise SettingError(f"this bundle is float32; `batchproof-train exact {folder}` writes it as exact")
    return found.model


def parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    made = Arguments(
        prog="batchproof-train prove", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "path", metavar="FILE", type=Path, help="an ONNX file, a bundle's folder, or models/NAME: its newest version"
    )
    made.add_argument("--json", action="store_true", help="print the certificate as one JSON object")
    return made


def refused(sentence: str, status: int) -> int:
    """Say why there is no certificate."""
    print(f"batchproof-train prove: {sentence}", file=sys.stderr)
    return status
