"""`batchproof-train reference BUNDLE TABLE`: add the statistics of the training rows to a bundle that has none.

Bundles of format 1 have no reference.json, so the service cannot say whether rows have left the training data behind. This
command writes a new version with it, from the table that the bundle was trained on. Graph, golden rows, metrics and report
are copied byte for byte: every answer stays as it is.
Exit status: 0 written; 1 the bundle could not be written; 2 the bundle, the table or an argument cannot be used.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from batchproof.service.bundle import reader as bundles
from batchproof.service.bundle.manifest import REFERENCE_FILE as FILE
from batchproof.service.bundle.reader import Bundle
from batchproof.service.cli.parts.parser import Arguments, root
from batchproof.service.configuration.address import Root
from batchproof.service.errors import USAGE, BundleError
from batchproof.training.cli.arguments import refuse
from batchproof.training.cli.training_table import training_data
from batchproof.training.data.dataset import Dataset
from batchproof.training.data.tables.table_error import TableError
from batchproof.training.export import bundle_writer, reference
from batchproof.training.export.bundle_writer import WriteError
from batchproof.training.export.runner import runner_of
from batchproof.training.settings import SettingError

PROGRAM = "batchproof-train reference"
DERIVED = ("format", "format_version", "sha256", "files", "version")  # fields that are new in the new version


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    options = make_parser().parse_args(arguments)
    try:
        folder = rewrite(options.bundle, options.table, options.models)
    except (BundleError, SettingError, TableError) as error:
        return refuse(PROGRAM, error, USAGE)
    except WriteError as error:
        return refuse(PROGRAM, error, 1)
    print(f"wrote {folder}")
    return 0


def make_parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    parser = Arguments(prog=PROGRAM, description=__doc__)
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="models/NAME/VERSION")
    parser.add_argument("table", metavar="TABLE", type=root, help="the table that it was trained on")
    parser.add_argument("--models", metavar="FOLDER", type=Path,
                        help="write to this folder of models instead, under the same version")  # fmt: skip
    return parser


def rewrite(folder: Path, table: Root, models: Path | None) -> Path:
    """Write the bundle in `folder` with reference.json; returns the new folder."""
    old = bundles.read(folder)
    name = old.manifest.name
    if FILE in old.manifest.files:
        raise BundleError(f"{folder} has {FILE} already")
    data = training_data(old, table)
    _check_encoding(old, data)
    outputs = runner_of((folder / "model.onnx").read_bytes()).run([data.arrays[data.evaluation_part]])[0]
    rare_rows = old.manifest.provenance["settings"]["rare_rows"]
    files = {file: (folder / file).read_bytes() for file in old.manifest.files}
    files[FILE] = reference.serialise(old.manifest.signature, data.arrays["train"], outputs, rare_rows)
    manifest = json.loads((folder / "bundle.json").read_bytes())
    source = {"version": old.manifest.version, "sha256": old.manifest.sha256}
    manifest["provenance"] = {**manifest["provenance"], "exported_from": source}
    version = old.manifest.version if models is not None else bundle_writer.next_version(folder.parent.parent, name)
    content = {"version": version, **{field: value for field, value in manifest.items() if field not in DERIVED}}
    return bundle_writer.write(models or folder.parent.parent, content, files)


def _check_encoding(old: Bundle, data: Dataset) -> None:
    """Raise BundleError where the table is not encoded as it was in training: the counts would be of other values."""
    for then, now in zip(old.manifest.signature.inputs, data.signature.inputs, strict=False):
        if (then.name, then.kind, then.categories) != (now.name, now.kind, now.categories):
            raise BundleError(f"{then.name} is encoded otherwise now than when the bundle was trained; train it again")
    if len(old.manifest.signature.inputs) != len(data.signature.inputs):
        raise BundleError("the table has other features now than when the bundle was trained; train it again")
