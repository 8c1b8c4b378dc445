"""Scoring a file, beside the bare onnxruntime loop on arrays that are ready.

    python -m bench.predict [--rows 1000000] [--rounds 5] [--threads 1] [--workers 1] [--format parquet]

The loop has its arrays in memory, runs the engine on one slice after another and drops the outputs; it gets the better
one of two slice sizes. The file pass is all of `batchproof predict` but the start of the process and the loading and
checking of the model: it opens a Parquet file (one row group, snappy, as pyarrow writes it), decodes and encodes it,
runs the same engine session, and writes every column and the predictions to another Parquet file, synced to the disk.
Both have `--threads` engine threads; the file pass has a thread that reads and one that writes beside them, so it needs
a second core to come near the loop. The two take turns in one process, the order changing from round to round, and the
share is that of the medians. `cpu us` are microseconds of CPU time a row, in all threads, and `cores` how many the file
pass got: where other work holds the cores it cannot have the 1.3 or so that it needs, and the share says little.

With `--format csv` a third one takes turns: polars reads the same file and writes it again, predicting nothing. The file
is as polars and pandas write it: without quotes around texts.

With `--workers N` the file pass is that of `batchproof predict --workers N`. The loop stays one loop, so the share of N
workers on N cores is between 0 and N.
"""

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from pyarrow import ipc, parquet

from batchproof.service.bundle import reader as bundle
from batchproof.service.cli.predict import PART_ROWS, block_rows
from batchproof.service.configuration.settings import RUN_ROWS
from batchproof.service.features.arrays import Arrays
from batchproof.service.inference import model
from batchproof.service.inference.engine import EngineOptions
from batchproof.service.inference.model import Model
from batchproof.service.invariance.check import for_bundles
from batchproof.service.tables.offline.jobs import Task
from batchproof.service.tables.offline.output import ScoringOptions
from batchproof.service.tables.offline.progress import Progress
from batchproof.service.tables.offline.score import score
from batchproof.service.tables.parameters import Parameters
from bench.make_model import CATEGORIES, MIXED, REFERENCE, Shape, build, write_bundle

LOOP_ROWS = (512, 4096)  # of one run of the bare loop


class Cost(NamedTuple):
    """What one pass over the rows took."""

    wall_s: float
    cpu_s: float


def main() -> None:
    """Measure both shapes of model and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1, help="blocks that the file pass runs at a time")
    parser.add_argument("--format", choices=("parquet", "arrow", "csv"), default="parquet")
    chosen = parser.parse_args()
    heads = ["loop rows/s", "file rows/s", "share", "loop cpu us", "file cpu us", "cores"]
    heads += ["polars rows/s", "polars cpu us"] if chosen.format == "csv" else []
    print(f"{'model':10}" + "".join(f"{head:>14}" for head in heads))
    with tempfile.TemporaryDirectory() as folder:
        for shape in (REFERENCE, MIXED):
            print(_line(shape, Path(folder), chosen), flush=True)


def _line(shape: Shape, folder: Path, chosen: argparse.Namespace) -> str:
    rows = chosen.rows
    write_bundle(shape, folder, build(shape).SerializeToString())
    found = bundle.read(folder / shape.name / "1")
    loaded = model.load(found, EngineOptions("cpu", chosen.threads), RUN_ROWS, for_bundles("require"))
    arrays = _arrays(shape, rows)
    source, target = (folder / f"{shape.name}{end}.{chosen.format}" for end in ("", "-answered"))
    _write(_table(shape, arrays), source)
    passes: dict[str, Callable[[], Cost]] = {
        "loop": lambda: min(_cost(partial(_loop, loaded, arrays, size)) for size in LOOP_ROWS),
        "file": lambda: _cost(partial(_file, loaded, source, target, chosen.workers)),
    }
    if chosen.format == "csv":
        passes["polars"] = lambda: _cost(partial(_polars, source, target))
    taken: dict[str, list[Cost]] = {name: [] for name in passes}
    for turn in range(chosen.rounds):
        for name in sorted(taken, reverse=turn % 2 == 0):
            target.unlink(missing_ok=True)
            taken[name].append(passes[name]())
    costs = {name: Cost(*map(statistics.median, zip(*found, strict=True))) for name, found in taken.items()}
    loop, file = costs["loop"], costs["file"]
    cores = statistics.median(one.cpu_s / one.wall_s for one in taken["file"])
    polars = costs.get("polars")
    return (
        f"{shape.name:10}{rows / loop.wall_s:14,.0f}{rows / file.wall_s:14,.0f}{loop.wall_s / file.wall_s:14.2f}"
        f"{1e6 * loop.cpu_s / rows:14.2f}{1e6 * file.cpu_s / rows:14.2f}{cores:14.2f}"
        + (f"{rows / polars.wall_s:14,.0f}{1e6 * polars.cpu_s / rows:14.2f}" if polars else "")
    )


def _write(table: pa.Table, path: Path) -> None:
    if path.suffix == ".parquet":
        parquet.write_table(table, path)
    elif path.suffix == ".arrow":
        with ipc.new_file(path, table.schema) as file:
            file.write_table(table)
    else:
        pl.DataFrame(table).write_csv(path)


def _polars(source: Path, target: Path) -> None:
    pl.read_csv(source).write_csv(target)


def _cost(do: Callable[[], None]) -> Cost:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    do()
    return Cost(time.perf_counter() - wall_s, time.process_time() - cpu_s)


def _arrays(shape: Shape, rows: int) -> Arrays:
    rng = np.random.default_rng(0)
    numeric = rng.uniform(-4, 4, (rows, shape.numeric))
    codes = rng.integers(0, len(CATEGORIES), (rows, shape.categorical)) if shape.categorical else None
    return Arrays(numeric, codes)


def _table(shape: Shape, arrays: Arrays) -> pa.Table:
    names = [feature["name"] for feature in shape.features()]
    assert arrays.numeric is not None, "both shapes have numbers"
    columns = [pa.array(column) for column in arrays.numeric.T]
    if arrays.categorical is not None:
        columns += [pa.array(np.array(CATEGORIES)[codes]) for codes in arrays.categorical.T]
    return pa.table(columns, names=names)


def _loop(loaded: Model, arrays: Arrays, size: int) -> None:
    rows = len(arrays.numeric) if arrays.numeric is not None else 0
    for start in range(0, rows, size):
        loaded.engine.run([None if array is None else array[start : start + size] for array in arrays])


def _file(loaded: Model, source: Path, target: Path, workers: int) -> None:
    way = ScoringOptions(Parameters(), block_rows(len(loaded.encoder.names)), PART_ROWS, workers)
    score(loaded, Task(source, target), way, Progress(source.name, None, io.StringIO()))


if __name__ == "__main__":
    main()
