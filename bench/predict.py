"""Scoring a Parquet file, beside the bare onnxruntime loop on arrays that are ready.

    python -m bench.predict [--rows 1000000] [--rounds 3] [--threads 1]

Both have one engine thread and take turns in one process; the file is read, encoded, answered with all its columns
and written again. The loop gets the better one of two batch sizes. The share is the middle one of the rounds.
"""

import argparse
import io
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from bench.make_model import CATEGORIES, MIXED, REFERENCE, Shape, build, write_bundle
from service import bundle, model
from service.engine import EngineOptions
from service.features import Arrays
from service.files.plan import Task
from service.files.progress import Progress
from service.files.score import Way, score
from service.invariance import for_bundles
from service.model import Model
from service.predict_command import BLOCK_ROWS, PART_ROWS, RUN_ROWS
from service.tables.parameters import Parameters

LOOP_ROWS = (512, 4096)  # of one run of the bare loop


def main() -> None:
    """Measure both shapes of model and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    print(f"{'model':10} {'loop rows/s':>12} {'file rows/s':>12} {'share':>6}")
    with tempfile.TemporaryDirectory() as folder:
        for shape in (REFERENCE, MIXED):
            print(_line(shape, Path(folder), chosen.rows, chosen.rounds, chosen.threads), flush=True)


def _line(shape: Shape, folder: Path, rows: int, rounds: int, threads: int) -> str:
    write_bundle(shape, folder, build(shape).SerializeToString())
    found = bundle.read(folder / shape.name / "1")
    loaded = model.load(found, EngineOptions("cpu", threads), RUN_ROWS, for_bundles("require"))
    arrays = _arrays(shape, rows)
    source = folder / f"{shape.name}.parquet"
    parquet.write_table(_table(shape, arrays), source)
    loops, files, shares = [], [], []
    for _ in range(rounds):
        loops.append(max(_loop(loaded, arrays, size) for size in LOOP_ROWS))
        files.append(_file(loaded, source, folder / f"{shape.name}-answered.parquet", rows))
        shares.append(files[-1] / loops[-1])
    middle = [statistics.median(values) for values in (loops, files, shares)]
    return f"{shape.name:10} {middle[0]:12,.0f} {middle[1]:12,.0f} {middle[2]:6.2f}"


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


def _loop(loaded: Model, arrays: Arrays, size: int) -> float:
    """Return the rows a second of the engine alone."""
    rows = len(arrays.numeric) if arrays.numeric is not None else 0
    begun_s = time.perf_counter()
    for start in range(0, rows, size):
        loaded.engine.run([None if array is None else array[start : start + size] for array in arrays])
    return rows / (time.perf_counter() - begun_s)


def _file(loaded: Model, source: Path, target: Path, rows: int) -> float:
    """Return the rows a second from file to file."""
    begun_s = time.perf_counter()
    progress = Progress(source.name, rows, io.StringIO())
    score(loaded, Task(source, target), Way(Parameters(), BLOCK_ROWS, PART_ROWS), progress)
    return rows / (time.perf_counter() - begun_s)


if __name__ == "__main__":
    main()
