"""The command line: `batchproof-train TABLE --target COLUMN`, and its other commands."""

import argparse
import atexit
import gc
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import Field, fields
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchproof.installation import hint_for
from batchproof.service.cli.parts.parser import Arguments, root
from batchproof.service.configuration.address import Root
from batchproof.service.errors import USAGE, ended, first_line, reason
from batchproof.service.tables.offline.sources import STANDARD_INPUT
from batchproof.training.cli.arguments import (
    after_quick,
    check_page,
    number,
    read_file,
    refuse,
    whole_number,
    whole_numbers,
)
from batchproof.training.cli.processes import launch
from batchproof.training.cli.signing import Signing
from batchproof.training.distributed.place import check_count, launched, talks
from batchproof.training.option_groups import GROUPS
from batchproof.training.settings import SettingError, Settings, flag, make, type_name

if TYPE_CHECKING:
    from batchproof.training.pipeline import Trained

PROGRAM = "batchproof-train"
COLLECTED = (100_000, 20, 100)  # thresholds of Python's collector
FAILED = 1  # exit code: a check of the result failed; nothing was written
QUIT = 130  # exit code: Ctrl-C before there is anything to export, or a second one; nothing was written

COMMANDS = {  # each is the module training/cli/<name>.py with a function main(arguments) -> exit code
    "prove": "prove from its model.onnx that an exact bundle is exact",
    "exact": "write a new version of a bundle in exact arithmetic",
    "reference": "add the statistics for drift to a bundle that has none",
    "compare": "cross-validate against a constant, a linear model and boosted trees",
}
DESCRIPTION = """\
Fit a batch-norm MLP to a table and write a bundle that `batchproof serve` answers with.

  batchproof-train examples/penguins.csv --target species
  batchproof-train sales.parquet --target price --drop id --date sold_on --name sales

TABLE is a CSV, TSV, JSON Lines, Parquet or Arrow file; a folder or a pattern in quotes such as 'sales/*.csv', whose files have
the same columns; any of them at an address such as s3://BUCKET/TABLE.csv; or - for standard input. Its columns are typed and shown, its rows split into training, validation and test rows. After the fit the batch-norm statistics are
recomputed over all training rows and folded into the weights. Warnings stand at the end, each with what to do.
"""
EPILOG = """\
Ctrl-C finishes the epoch and exports the best network so far; a second one quits. A TOML file may hold settings too
(--settings FILE, the same names); flags override it. Exit code 2: one sentence says what was wrong; nothing was written. Exit
code 1: a check of the result failed, or the finished bundle could not be signed or registered; one sentence says which.

Other commands, each with its own --help:
"""
register_once = cache(atexit.register)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with collecting_rarely():
            if words and words[0] in COMMANDS:
                code: int = import_module(f"batchproof.training.cli.{words[0]}").main(words[1:])
                return code
            return train(make_parser().parse_args(words), words)
    except ModuleNotFoundError as error:
        package = (error.name or "batchproof").partition(".")[0]
        if package == "batchproof":
            raise
        return refused(f"{package} is not installed: {hint_for(package)}", USAGE)
    except KeyboardInterrupt:
        if talks():
            print("\nbatchproof-train: stopped; no bundle was written", file=sys.stderr)
        return QUIT


@contextmanager
def collecting_rarely() -> Iterator[None]:
    """Look for garbage rarely within, and not at the end: imports make a million objects that stay, and hardly any garbage."""
    before = gc.get_threshold()
    gc.set_threshold(*COLLECTED)
    register_once(gc.freeze)  # what the process holds when it ends is freed with it
    try:
        yield
    finally:
        gc.set_threshold(*before)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the training command: one flag for each setting, in groups."""
    commands = "".join(f"  {name:<10}{text}\n" for name, text in COMMANDS.items())
    parser = Arguments(
        prog=PROGRAM,
        description=DESCRIPTION,
        epilog=EPILOG + commands,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument(
        "table",
        metavar="TABLE",
        type=root,
        help="a CSV, TSV, JSON Lines, Parquet or Arrow file, a folder or a pattern of such files, an address, or - for standard input",
    )
    parser.add_argument("--settings", metavar="FILE", type=Path, help="a TOML file with any of the settings below")
    parser.add_argument("--quiet", action="store_true", help="do not show the epochs")
    parser.add_argument(
        "--sign",
        metavar="KEY",
        type=Path,
        help="sign the finished bundle with this PEM private key; see docs/signing.md",
    )
    parser.add_argument(
        "--sign-certificate", metavar="FILE", type=Path, action="append",
        help="PEM certificate of that key, then those of its issuers (again for each file)",
    )  # fmt: skip
    groups = {name: parser.add_argument_group(name, text) for name, text in GROUPS.items()}
    for entry in fields(Settings):
        groups[entry.metadata["group"]].add_argument(
            flag(entry.name), *SPELLINGS.get(entry.name, ()), **_argument(entry)
        )
    return parser


def train(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Train and return the exit code; a fault of the table or of a setting is printed as one sentence.

    `words` are the arguments that `options` were read from, for the processes of --processes.
    """
    start_s = time.monotonic()  # before torch and scikit-learn load: the user waits for them too
    values = vars(options)
    path, quiet, file = values.pop("table"), values.pop("quiet", False), values.pop("settings", None)
    key, certificates = values.pop("sign", None), tuple(values.pop("sign_certificate", ()))
    # torch takes seconds to load, so a wrong flag is refused before that.
    try:
        settings = make({**(read_file(file) if file else {}), **values})
        signing = _signing(key, certificates)
        _check(path, settings)
    except SettingError as error:
        return refused(error, USAGE)
    if settings.processes is not None and settings.processes > 1 and not launched():
        return launch(words, settings.processes)
    code, trained = _run(path, settings, start_s, quiet=quiet)
    if trained is None:
        return code
    code = _finish(trained.folder, settings, signing)
    if settings.quick:
        print(after_quick(PROGRAM, words, file))
    return code


def refused(sentence: object, status: int) -> int:
    """Print why the command failed, where this process talks, and return its exit status."""
    return refuse(PROGRAM, sentence, status) if talks() else status


def _check(path: Root, settings: Settings) -> None:
    """Raise SettingError for what neither the settings nor the table can say."""
    check_count(settings.processes)
    check_page(settings.live)
    if str(path) == STANDARD_INPUT and (launched() or settings.processes is not None):
        raise SettingError("several processes cannot read one standard input: write the table to a file.")
    if settings.mlflow and not find_spec("mlflow"):
        raise SettingError(f"--mlflow needs mlflow, which is not installed: {hint_for('mlflow')}")


def _run(path: Root, settings: Settings, start_s: float, *, quiet: bool) -> "tuple[int, Trained | None]":
    """Train and return the exit code with what was written, which is nothing in all but the first of several processes."""
    from batchproof.training.data.tables.local_table import local_table
    from batchproof.training.data.tables.storage import ScratchError
    from batchproof.training.data.tables.table_error import TableError
    from batchproof.training.distributed.group_error import GroupError
    from batchproof.training.export.bundle_writer import WriteError
    from batchproof.training.fit.checkpoint import CheckpointError
    from batchproof.training.fit.progress import Progress
    from batchproof.training.network.parity import ParityError
    from batchproof.training.pipeline import train as run
    from batchproof.training.prove import ProofError

    try:
        with local_table(path) as source:
            return 0, run(source, settings, Progress(quiet=quiet), start_s)
    except (ScratchError, GroupError, ParityError, ProofError, WriteError) as error:
        return refused(error, FAILED), None
    except (TableError, SettingError, CheckpointError) as error:
        return refused(error, USAGE), None
    except OSError as error:  # a full disk, a folder that was removed
        return refused(f"the run stopped without a bundle: {ended(reason(error))}", FAILED), None


def _signing(key: Path | None, certificates: tuple[Path, ...]) -> Signing | None:
    """Return what signs the bundle; raises SettingError."""
    if key is None and certificates:
        raise SettingError("--sign-certificate needs --sign, the private key of the certificate.")
    return None if key is None else Signing(key, certificates)


def _finish(folder: Path, settings: Settings, signing: Signing | None) -> int:
    """Sign and register the bundle and write its card, as far as that is wanted, and return the exit code."""
    if signing is not None:
        try:
            print(signing.sign(folder))
        except SettingError as error:
            return refuse(PROGRAM, error, FAILED)
    if settings.card:
        try:
            _write_card(folder, Path(settings.card))
        except OSError as error:
            return refuse(PROGRAM, f"{folder} is written, but not its card: {ended(reason(error))}", FAILED)
    return _register(folder, settings) if settings.mlflow else 0


def _write_card(folder: Path, file: Path) -> None:
    """Write the model card, which replaces a file that is there; raises OSError."""
    from batchproof.service.bundle import reader
    from batchproof.service.bundle.documents.card import model_card

    file.write_text(model_card(reader.read(folder).manifest), encoding="utf-8", newline="\n")
    print(f"wrote {file}")


def _register(folder: Path, settings: Settings) -> int:
    """Log the bundle to MLflow and return the exit code; the bundle stays where it is if that fails."""
    from mlflow.exceptions import MlflowException

    from batchproof.mlflow import register

    try:
        print(register(folder, str(settings.mlflow), settings.register, settings.alias))
    except MlflowException as error:
        return refuse(PROGRAM, f"{folder} is written, but MLflow refused it: {first_line(error)}", FAILED)
    return 0


def _argument(entry: Field[Any]) -> dict[str, Any]:
    """Return the arguments of `add_argument` for one setting."""
    kind, default = type_name(entry.name), entry.default
    shown = "" if default in (None, (), "", False) else f" (default: {default})"
    common: dict[str, Any] = {"help": entry.metadata["help"].replace("%", "%%") + shown, "dest": entry.name}
    if kind == "bool":
        return {**common, "action": argparse.BooleanOptionalAction if default else "store_true"}
    if kind.startswith("tuple[str"):
        return {**common, "action": "append", "metavar": METAVARS.get(entry.name, "COLUMN")}
    if kind.startswith("tuple[int"):
        return {**common, "type": whole_numbers, "metavar": "N,N"}
    choices = entry.metadata["choices"]
    if choices:
        return {**common, "metavar": "{" + ",".join(choices) + "}"}  # settings.check refuses others, in one sentence
    types = {"int": whole_number, "float": number, "str": str}
    word = kind.split(" ")[0]
    return {
        **common,
        "type": types[word],
        "metavar": METAVARS.get(entry.name, word[0].upper() if word != "str" else "NAME"),
    }


SPELLINGS = {"license": ("--licence",)}
METAVARS = {
    "card": "FILE",
    "live": "FILE",
    "intended_use": "TEXT",
    "out_of_scope_use": "TEXT",
    "license": "LICENSE",
    "contact": "TEXT",
    "target": "COLUMN",
    "weight": "COLUMN",
    "group": "COLUMN",
    "time": "COLUMN",
    "class_weight": "WEIGHTS",
    "class_prior": "SHARES",
    "threshold": "RULE",
    "quantiles": "LEVELS",
    "split_column": "COLUMN",
    "missing": "VALUE",
    "date_format": "FORMAT",
    "decimal": "SIGN",
    "thousands": "SIGN",
    "test": "FILE",
    "models": "FOLDER",
    "memory": "SIZE",
}


if __name__ == "__main__":
    sys.exit(main())
