"""`batchproof-train prove FILE.onnx`: prove from the file that it is exact, and print the certificate.

Exit status: 0 proved; 1 not proved, with the node and the reason; 2 there is nothing to prove: the file cannot be
read, differs from its manifest, or belongs to a float32 bundle.
"""

import argparse
import json
import stat
from collections.abc import Sequence
from pathlib import Path

from google.protobuf.message import DecodeError

from batchproof.service.bundle import reader as bundle
from batchproof.service.cli.parts.parser import Arguments
from batchproof.service.errors import USAGE, BundleError, EngineError
from batchproof.service.inference.catalogue import roots
from batchproof.training.cli.arguments import refuse
from batchproof.training.export.exact.optimiser import check_optimised
from batchproof.training.prove import ProofError, prove
from batchproof.training.prove.certificate import page
from batchproof.training.prove.limits import MAX_FILE_BYTES, shown
from batchproof.training.settings import SettingError

PROGRAM = "batchproof-train prove"


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    options = make_parser().parse_args(arguments)
    path: Path = options.path
    try:
        if path.is_dir():
            path = roots.newest(path) / "model.onnx"
            model = bundled(path.parent)
        else:
            model = read_file(path)
        certificate = prove(model)
        check_optimised(model)
    except (BundleError, SettingError) as error:
        return refuse(PROGRAM, f"{path}: {str(error).rstrip('.')}.", USAGE)
    except EngineError as error:
        return refuse(PROGRAM, f"{path} is not proved: {shown(str(error), 300).rstrip('.')}.", 1)
    except OSError as error:
        return refuse(PROGRAM, f"{path} cannot be read: {error.strerror}.", USAGE)
    except DecodeError:
        return refuse(PROGRAM, f"{path} is not an ONNX file.", USAGE)
    except ProofError as error:
        return refuse(PROGRAM, f"{path} is not proved: at {error}.", 1)
    print(json.dumps(certificate) if options.json else page(certificate))
    return 0


def read_file(path: Path) -> bytes:
    """Return the bytes of a regular file of bounded size; raises SettingError for any other file."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise SettingError("this is not a regular file")
    if status.st_size > MAX_FILE_BYTES:
        raise SettingError(f"the file has {status.st_size} bytes; at most {MAX_FILE_BYTES} are read")
    return path.read_bytes()


def bundled(folder: Path) -> bytes:
    """Return the model of a bundle, checked against its manifest; SettingError where it is float32."""
    opened = bundle.read(folder)
    if opened.manifest.arithmetic.kind != "exact":
        raise SettingError(f"this bundle is float32; `batchproof-train exact {folder}` writes it as exact")
    return opened.model


def make_parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    parser = Arguments(prog=PROGRAM, description=__doc__)
    parser.add_argument(
        "path",
        metavar="FILE",
        type=Path,
        help="an ONNX file, the folder of a bundle, or models/NAME for its newest version",
    )
    parser.add_argument("--json", action="store_true", help="print the certificate as one JSON object")
    return parser
