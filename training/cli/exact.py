"""`batchproof-train exact BUNDLE`: write a new version of a bundle, with its network in exact arithmetic.

It needs the bundle's folder only: weights.safetensors holds the network. Its accuracy is measured on the golden
rows or, with --table, on the test rows of the table that it was trained on.
Exit status: 0 written; 1 the network could not be proved or written; 2 the bundle or an argument cannot be used.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from batchproof.service.bundle import reader as bundles
from batchproof.service.bundle.manifest import REFERENCE_FILE
from batchproof.service.bundle.reader import Bundle
from batchproof.service.cli.parts.parser import Arguments, root
from batchproof.service.configuration.address import Root
from batchproof.service.errors import USAGE, BundleError
from batchproof.service.features.row_encoder import Encoder
from batchproof.training.cli.arguments import number, refuse
from batchproof.training.cli.training_table import training_data
from batchproof.training.data.tables.table_error import TableError
from batchproof.training.export import bundle_writer as bundle
from batchproof.training.export import golden
from batchproof.training.export.bundle_writer import WriteError
from batchproof.training.export.exact import build as exacts
from batchproof.training.export.exact.graph import HEADROOM
from batchproof.training.export.runner import runner_of
from batchproof.training.network import weights as weight_files
from batchproof.training.prove import ProofError
from batchproof.training.prove.certificate import page
from batchproof.training.prove.monotone import features
from batchproof.training.settings import SettingError

PROGRAM = "batchproof-train exact"
# Fields of bundle.json that do not change.
KEPT = ("name", "task", "signature", "metrics", "uncertainty", "uncertainties", "decision", "quantiles")


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    options = make_parser().parse_args(arguments)
    try:
        folder = rewrite(options.bundle, options.headroom, options.table)
    except (BundleError, SettingError, TableError) as error:
        return refuse(PROGRAM, error, USAGE)
    except (ProofError, WriteError) as error:
        return refuse(PROGRAM, error, 1)
    print(f"wrote {folder}")
    return 0


def make_parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    parser = Arguments(prog=PROGRAM, description=__doc__)
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="models/NAME/VERSION, with weights.safetensors")
    parser.add_argument("--headroom", type=number, default=HEADROOM, metavar="X",
                      help="hidden activations may reach X times their training maxima (default: %(default)g)")  # fmt: skip
    parser.add_argument("--table", type=root, metavar="TABLE", help="the training table: measure on its test rows")
    return parser


def rewrite(folder: Path, headroom: float, table: Root | None) -> Path:
    """Write the exact version of the bundle in `folder`; returns the new folder."""
    if not headroom > 0.0:
        raise SettingError(
            f"--headroom is {headroom:g}: it must be above 0; 1 leaves no room beyond the training rows."
        )
    old = bundles.read(folder)
    if "weights.safetensors" not in old.manifest.files:
        raise BundleError(f"{folder} has no weights.safetensors: train again with --arithmetic exact")
    stored = folder / "weights.safetensors"
    weights = weight_files.read(stored, old.manifest.task)
    exact = exacts.build(weights, headroom)
    monotone = features.read(old.manifest.provenance)
    features.check(exact.model, [feature.name for feature in old.manifest.signature.numeric], monotone)
    print("\n".join([page(exact.certificate), *features.page(monotone)]))
    runner = runner_of(exact.model)
    rows = Encoder(old.manifest.signature).encode_rows(old.golden.rows).arrays
    part, arrays = ("golden", rows) if table is None else ("test", training_data(old, table).arrays["test"])
    arithmetic = exacts.arithmetic(exact, weights, runner, arrays)
    arithmetic["accuracy"]["measured_on"] = f"the {part} rows"
    files = {
        "model.onnx": exact.model,
        "golden.json": golden.serialise(old.golden.rows, runner.run([rows])[0]),
        "weights.safetensors": stored.read_bytes(),
    }
    # The statistics hold for the exact version too: its predictions differ by less than the width of a cell.
    for name in ("report.html", REFERENCE_FILE):
        if name in old.manifest.files:
            files[name] = (folder / name).read_bytes()
    return bundle.write(folder.parent.parent, content(old, folder, arithmetic), files)


def content(old: Bundle, folder: Path, arithmetic: dict[str, Any]) -> dict[str, Any]:
    """Return bundle.json of the new version, without what `bundle_writer.write` adds."""
    manifest = old.manifest.model_dump()
    source = {"version": old.manifest.version, "sha256": old.manifest.sha256}
    return {
        **{name: manifest[name] for name in KEPT if name in manifest},
        "version": bundle.next_version(folder.parent.parent, old.manifest.name),
        "arithmetic": arithmetic,
        "provenance": {**manifest["provenance"], "exported_from": source},
    }
