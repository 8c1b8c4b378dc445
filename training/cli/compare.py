"""`batchproof-train compare TABLE --target COLUMN`: who predicts this table best, and by how much."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from batchproof.service.cli.parser import Arguments
from batchproof.service.errors import USAGE
from batchproof.training.cli.arguments import whole_number
from batchproof.training.data.table import TableError
from batchproof.training.settings import ENCODINGS, SettingError, make


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    given = parser().parse_args(arguments)
    from batchproof.training.data.dataset import prepare

    try:
        values = {name: value for name, value in vars(given).items() if name not in ("table", "folds")}
        settings = make(values)
        data = prepare(given.table, settings)
        check_folds(given.folds, len(data.target.y))
        # torch takes seconds to load: a fault of the table is told before that.
        from batchproof.training.evaluation.cross_validation import compare, verdict

        unit = "RMSE" if data.target.classes is None else "log loss"
        print(f"{given.table.name}: {len(data.target.y)} rows, {data.target.task}, {given.folds} folds", flush=True)
        scores = compare(data, settings, given.folds, lambda line: print(line, file=sys.stderr, flush=True))
    except (TableError, SettingError) as error:
        print(f"batchproof-train compare: {error}", file=sys.stderr)
        return USAGE
    best = scores[0].loss
    print(f"\n{'':<16}{unit:>12}  over folds   to the best   seconds")
    for score in scores:
        spread = max(score.losses) - min(score.losses)
        print(
            f"{score.method:<16}{score.loss:>12.4g}{'± ' + format(spread / 2, '.2g'):>12}{score.loss / best:>14.3f}{score.seconds:>10.1f}"
        )
    print(f"\n{verdict(scores)}")
    return 0


def check_folds(folds: int, rows: int) -> None:
    """Raise SettingError where so many folds leave too few rows each."""
    if not 2 <= folds <= rows // 4:
        raise SettingError(f"--folds is {folds}: use 2 to {rows // 4} for {rows} rows.")


def parser() -> argparse.ArgumentParser:
    """Return the parser: the columns' flags are those of training."""
    made = Arguments(
        prog="batchproof-train compare",
        description="Cross-validate the network, with its defaults but for what is given, against a constant, a linear model and boosted trees.",
        argument_default=argparse.SUPPRESS,
    )
    made.add_argument("table", metavar="TABLE", type=Path, help="a CSV, TSV, Parquet or Arrow file")
    made.add_argument("--target", required=True, metavar="COLUMN", help="the column to predict")
    made.add_argument("--folds", type=whole_number, default=5, help="rows are dealt to this many folds (%(default)s)")
    made.add_argument("--task", choices=("binary", "multiclass", "regression"), help="left out: inferred")
    made.add_argument("--seed", type=whole_number, help="seed of folds and fits (0)")
    made.add_argument(
        "--epochs", type=whole_number, help="greatest number of passes of the network; few for a quick look"
    )
    made.add_argument("--ensemble", type=whole_number, help="networks whose scores are averaged; 1 for a quick look")
    made.add_argument("--encoding", metavar="{" + ",".join(ENCODINGS) + "}", help="left out: chosen by validation loss")
    made.add_argument("--threads", type=whole_number, help="CPU threads of torch")
    for flag in ("numeric", "categorical", "date", "drop", "keep"):
        made.add_argument(f"--{flag}", action="append", metavar="COLUMN", help="as in training; may be repeated")
    return made
