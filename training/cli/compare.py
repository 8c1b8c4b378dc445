"""`batchproof-train compare TABLE --target COLUMN`: which method predicts this table best, and by how much."""

import argparse
import sys
from collections.abc import Sequence

from batchproof.service.cli.parts.parser import Arguments, root
from batchproof.service.errors import USAGE
from batchproof.training.cli.arguments import refuse, whole_number
from batchproof.training.data.tables.table_error import TableError
from batchproof.training.data.text.text_options import COLUMN_FLAGS
from batchproof.training.goal import OBJECTIVES
from batchproof.training.settings import ENCODINGS, SettingError, make

PROGRAM = "batchproof-train compare"
CONSTRAINTS = ("increasing", "decreasing")


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    options = make_parser().parse_args(arguments)
    from batchproof.training.data.dataset import prepare
    from batchproof.training.data.tables.local_table import local_table

    try:
        values = {name: value for name, value in vars(options).items() if name not in ("table", "folds")}
        settings = make(values)
        with local_table(options.table) as source:
            data = prepare(source, settings)
        check_folds(options.folds, len(data.target.y))
        # torch takes seconds to load, so most faults of the table are refused before that.
        from batchproof.training.evaluation.cross_validation import check_classes, compare, verdict
        from batchproof.training.evaluation.metrics import loss_of

        check_classes(data, settings.seed, options.folds)

        for line in data.warning_lines():
            print(line, file=sys.stderr, flush=True)
        unit = loss_of(data.target).name
        print(f"{options.table.name}: {len(data.target.y)} rows, {data.target.task}, {options.folds} folds", flush=True)
        scores = compare(data, settings, options.folds, lambda line: print(line, file=sys.stderr, flush=True))
    except (TableError, SettingError) as error:
        return refuse(PROGRAM, error, USAGE)
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
    """Raise SettingError where the folds would have too few rows each."""
    if not 2 <= folds <= rows // 4:
        raise SettingError(f"--folds is {folds}: use 2 to {rows // 4} for {rows} rows.")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser; it shares the flags for columns with training."""
    parser = Arguments(
        prog=PROGRAM,
        description=(
            "Cross-validate the network against a constant, a linear model and boosted trees, and advise which\nto use."
        ),
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument(
        "table", metavar="TABLE", type=root, help="a file or an address as for training, or - for standard input"
    )
    parser.add_argument(
        "--target", required=True, metavar="COLUMN", help="the column to predict, or several numbers: height,weight"
    )
    parser.add_argument("--folds", type=whole_number, default=5, help="number of folds (%(default)s)")
    parser.add_argument("--task", choices=("binary", "multiclass", "regression"), help="left out: inferred")
    parser.add_argument("--seed", type=whole_number, help="seed of folds and fits (0)")
    parser.add_argument("--quick", action="store_true", help="fit the network as --quick of training does, in seconds")
    parser.add_argument("--epochs", type=whole_number, help="most passes over the training rows")
    parser.add_argument("--ensemble", type=whole_number, help="networks whose scores are averaged")
    parser.add_argument(
        "--encoding", metavar="{" + ",".join(ENCODINGS) + "}", help="left out: chosen by validation loss"
    )
    parser.add_argument("--threads", type=whole_number, help="CPU threads of torch")
    parser.add_argument("--group", metavar="COLUMN", help="rows of one value are all in one fold")
    parser.add_argument("--time", metavar="COLUMN", help="each fold tests on rows after those that it learns from")
    parser.add_argument("--objective", metavar="{" + ",".join(OBJECTIVES) + "}", help="what fits of a number minimise")
    parser.add_argument("--weight", metavar="COLUMN", help="how much each row counts, in the fits and in the losses")
    parser.add_argument("--class-weight", metavar="WEIGHTS", help="balanced, or CLASS=WEIGHT,CLASS=WEIGHT; as for rows")
    parser.add_argument("--metric", metavar="METRIC", help="what the network's epochs and encodings are chosen by")
    parser.add_argument("--skip-missing-target", action="store_true", help="leave out rows without a target")
    for flag in COLUMN_FLAGS:
        note = "; the network and the trees keep it" if flag in CONSTRAINTS else ""
        shown = f"as for training; a,b or repeated{note}"
        parser.add_argument(f"--{flag}", action="append", metavar="COLUMN", help=shown)
    parser.add_argument("--missing", action="append", metavar="VALUE", help="as for training, as are those below")
    parser.add_argument("--date-format", action="append", metavar="FORMAT", help="how dates are written")
    parser.add_argument("--decimal", metavar="SIGN", help="the sign before decimals")
    parser.add_argument("--thousands", metavar="SIGN", help="the sign between thousands")
    parser.add_argument("--strip", action="store_true", help="leave out blanks around texts")
    return parser
