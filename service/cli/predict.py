"""`batchproof predict`: score files of rows with a model, without a server, with the same bits as the service.

    batchproof predict models/penguins rows.parquet answers.parquet
    batchproof predict models/penguins 'in/*.csv' out/

    batchproof predict models/penguins 's3://bucket/in/*.parquet' s3://bucket/out/

The endings name the formats: .csv .txt .tsv .jsonl .parquet .arrow .arrows .feather, and of inputs .csv.gz, .csv.zst and
so on. A folder of Parquet files is one table; - is standard input, whose format is recognised by its first bytes. Tables may
be at addresses that begin with s3://, gs:// or az://. Columns of the training table that are not features, and its target,
may be present. To continue an interrupted job, run the same command again. Exit status: 0 done; 2 something was refused;
130 interrupted.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from batchproof.service.bundle import reader as bundle
from batchproof.service.cli.parts.parser import root
from batchproof.service.configuration.settings import MOST_THREADS, RUN_ROWS
from batchproof.service.errors import USAGE, BundleError, EngineError, ServiceError, behind, ended, reason
from batchproof.service.inference import model
from batchproof.service.inference.catalogue import roots
from batchproof.service.inference.catalogue.repository import naming
from batchproof.service.inference.engine import EngineOptions
from batchproof.service.inference.model import Model
from batchproof.service.invariance.check import for_bundles
from batchproof.service.runtime.system import cores
from batchproof.service.tables.formats import PARQUET, pyarrow
from batchproof.service.tables.offline.jobs import PlanError, Task, plan
from batchproof.service.tables.offline.sources import STANDARD_INPUT, SourceError, TablePath, format_of, standard_input
from batchproof.service.tables.parameters import Parameters

INTERRUPTED = 130
BLOCK_ROWS = 16_384
BLOCK_VALUES = 1 << 19  # a block of a wide model has fewer rows: some twenty blocks are held at a time
PART_ROWS = 4_000_000
# The least and the most of each; a thread takes memory, whatever it does.
RANGES = {"part_rows": (1, sys.maxsize), "threads": (0, MOST_THREADS), "workers": (0, MOST_THREADS)}


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("predict", help="score files of rows without a server", description=__doc__)
    parser.add_argument(
        "model", type=root, help="models/NAME, models/NAME/VERSION, or an address such as s3://bucket/models/NAME"
    )
    parser.add_argument("inputs", nargs="+", metavar="INPUT",
                        help="files, folders of Parquet files, globs in quotes, all three also as addresses, or - for standard input")  # fmt: skip
    parser.add_argument(
        "output", metavar="OUTPUT", help="a file, or a folder for several inputs; both may be addresses"
    )
    parser.add_argument("--on-error", choices=("stop", "row"), default="stop",
                        help="stop the job at a bad row, or write its error into a column")  # fmt: skip
    parser.add_argument(
        "--extra",
        choices=("refuse", "ignore"),
        default="refuse",
        help="refuse columns that training did not know, or copy them to the answer",
    )
    parser.add_argument(
        "--answer",
        choices=("append", "alone"),
        default="append",
        help="write the input columns and the predictions, or only the predictions",
    )
    parser.add_argument("--prefix", default="", help="text before the names of added columns")
    parser.add_argument("--overwrite", action="store_true", help="replace answers that already exist")
    parser.add_argument(
        "--invariance", choices=("require", "tile", "report"), default="require", help="as when serving"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, default=1, help="engine threads of one run; 0: one for each core")
    parser.add_argument("--workers", type=int, default=1,
                        help="blocks that the engine runs at a time; 0: one for each core (default %(default)s)")  # fmt: skip
    parser.add_argument(
        "--part-rows",
        type=int,
        default=PART_ROWS,
        help="rows in one part; an interrupted job continues after its last finished part",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Score every file; returns the exit status."""
    try:
        if STANDARD_INPUT in options.inputs:
            with standard_input() as path:
                options.inputs = [str(path) if text == STANDARD_INPUT else text for text in options.inputs]
                _score_open(options)
        else:
            _score_open(options)
    except KeyboardInterrupt:
        print("\nbatchproof predict: interrupted; run the same command again to continue", file=sys.stderr)
        return INTERRUPTED
    except ServiceError as error:
        print(behind("batchproof predict", error.message), file=sys.stderr)
        return USAGE
    except (SourceError, BundleError, EngineError, OSError) as error:
        sentence = reason(error)
        print(f"batchproof predict: {ended(sentence)}", file=sys.stderr)
        return USAGE
    return 0


def _score_open(options: argparse.Namespace) -> None:
    tasks = _open_tasks(options)
    if tasks:
        _score_all(_load(options), tasks, options)


def _open_tasks(options: argparse.Namespace) -> list[Task]:
    """Return what is left to do; in a folder the answers that are there are passed over."""
    for name, (least, most) in RANGES.items():
        value, flag = getattr(options, name), f"--{name.replace('_', '-')}"
        if value < least:
            raise PlanError(f"{flag} is {value}: it must be {least} or more")
        if value > most:
            raise PlanError(f"{flag} is {value}: it must be {most} or less")
    tasks = plan(options.inputs, options.output)
    open_tasks = [task for task in tasks if options.overwrite or not task.target.exists()]
    if not open_tasks and len(tasks) == 1:
        raise PlanError(f"{tasks[0].target} already exists; --overwrite replaces it")
    for task in tasks:
        if task not in open_tasks:
            print(f"{task.source}: {task.target} already exists", file=sys.stderr)
    return open_tasks


def _load(options: argparse.Namespace) -> Model:
    folder = roots.newest(options.model)
    engine = EngineOptions(device=options.device, threads=options.threads)
    with naming(folder):
        return model.load(bundle.read(folder), engine, RUN_ROWS, for_bundles(options.invariance))


def _score_all(loaded: Model, tasks: list[Task], options: argparse.Namespace) -> None:
    from batchproof.service.tables.offline.output import ScoringOptions
    from batchproof.service.tables.offline.progress import Progress
    from batchproof.service.tables.offline.score import score

    parameters = Parameters(options.extra, options.answer, options.on_error, options.prefix, asked_in="flags")
    workers = options.workers or cores()
    way = ScoringOptions(parameters, block_rows(len(loaded.encoder.names)), options.part_rows, workers)
    for task in tasks:
        if isinstance(task.target, Path):
            task.target.parent.mkdir(parents=True, exist_ok=True)
        progress = Progress(task.source.name, _total_rows(task.source), sys.stderr)
        started_s = time.monotonic()
        try:
            done = score(loaded, task, way, progress)
        except ServiceError as error:
            raise PlanError(behind(task.source, error.message)) from error
        finally:
            progress.clear()
        seconds = time.monotonic() - started_s
        bad = f", {done.bad_rows} of them bad" if done.bad_rows else ""
        before = f" ({done.rows_before} were there from before)" if done.rows_before else ""
        print(f"{task.source} -> {task.target}: {done.rows} rows{bad}{before}, {seconds:.2f} s", file=sys.stderr)


def block_rows(features: int) -> int:
    """Return how many rows of a model with so many features are read, run and written together."""
    return min(BLOCK_ROWS, max(BLOCK_VALUES // features, RUN_ROWS))


def _total_rows(source: TablePath) -> int | None:
    """Return the rows of a table that says how many it has."""
    if source.is_dir() or format_of(source) != PARQUET:
        return None
    pyarrow(PARQUET)
    from pyarrow import ArrowException, parquet

    try:
        return int(parquet.read_metadata(source if isinstance(source, Path) else source.open_random()).num_rows)
    except ArrowException as error:
        raise PlanError(f"{source} is not Parquet: {str(error).splitlines()[0]}") from error
