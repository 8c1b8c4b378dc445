"""`batchproof-train prove FILE.onnx`: prove from the file that it is exact, and print the certificate.

Of a bundle with monotone constraints it also proves, from the graph, that no answer goes against them; a float32 bundle is proved
monotone only.
Exit status: 0 proved; 1 not proved, with the node and the reason; 2 there is nothing to prove: the file cannot be
read, differs from its manifest, or belongs to a float32 bundle without constraints.
"""

import argparse
import json
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from batchproof.service.bundle import reader as bundle
from batchproof.service.bundle.reader import Bundle
from batchproof.service.cli.parts.parser import Arguments
from batchproof.service.errors import USAGE, BundleError, EngineError
from batchproof.service.inference.catalogue import roots
from batchproof.training.cli.arguments import refuse
from batchproof.training.export.exact.optimiser import check_optimised
from batchproof.training.prove import ProofError, prove
from batchproof.training.prove.certificate import page
from batchproof.training.prove.limits import MAX_FILE_BYTES, shown
from batchproof.training.prove.monotone import features
from batchproof.training.settings import SettingError

PROGRAM = "batchproof-train prove"


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    options = make_parser().parse_args(arguments)
    path: Path = options.path
    try:
        opened = None
        if path.is_dir():
            path = roots.newest(path) / "model.onnx"
            opened = bundled(path.parent)
        print(proved(read_file(path) if opened is None else opened.model, opened, as_json=options.json))
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
    return 0


def proved(model: bytes, opened: Bundle | None, *, as_json: bool) -> str:
    """Return what is proved of a model, and of the constraints of the bundle that it is from, as a page or as JSON."""
    manifest = None if opened is None else opened.manifest
    monotone = {} if manifest is None else features.read(manifest.provenance)
    content: dict[str, Any] = {}
    lines = ["float32: proved monotone, not exact"]
    if manifest is None or manifest.arithmetic.kind == "exact":
        content = prove(model)
        check_optimised(model)
        lines = [page(content)]
    if manifest is not None and monotone:
        features.check(model, [feature.name for feature in manifest.signature.numeric], monotone)
        content = {**content, "monotone": features.stated(monotone)}
    return json.dumps(content) if as_json else "\n".join([*lines, *features.page(monotone)])


def read_file(path: Path) -> bytes:
    """Return the bytes of a regular file of bounded size; raises SettingError for any other file."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise SettingError("this is not a regular file")
    if status.st_size > MAX_FILE_BYTES:
        raise SettingError(f"the file has {status.st_size} bytes; at most {MAX_FILE_BYTES} are read")
    return path.read_bytes()


def bundled(folder: Path) -> Bundle:
    """Return a bundle, its model checked against its manifest; SettingError where it is float32, without constraints."""
    opened = bundle.read(folder)
    if opened.manifest.arithmetic.kind != "exact" and not features.read(opened.manifest.provenance):
        raise SettingError(f"this bundle is float32; `batchproof-train exact {folder}` writes it as exact")
    return opened


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
