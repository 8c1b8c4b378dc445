"""What a whole bundle costs beside its bare network, and beside boosted trees: tables by the defaults, timed in turns.

    python -m bench.real_bundles adult.parquet:income diamonds.parquet:price [--rows 1,32,256] [--trees 100,1000]

Each table is trained for one epoch, which gives the graph that a whole fit would give, with other numbers in it. The bare
network is the same layers from their encoded input on. Trees are LightGBM's with its defaults and one thread, on at most
50 000 rows, where LightGBM is installed; they get encoded numbers, as the engine does. Times are processor time, medians
of many blocks in turns. Both arithmetics come from the same weights.
"""

import argparse
import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
from pyarrow import compute, parquet

from batchproof.service.bundle import reader
from batchproof.service.features.arrays import Arrays
from batchproof.service.features.columns import encode_columns
from batchproof.service.inference.engine import Engine, EngineOptions
from batchproof.training.export import float32
from batchproof.training.export.exact.build import build
from batchproof.training.network.weights import Weights
from batchproof.training.preprocessing.onnx_graph import Graph, TensorProto
from bench.exact_speed import BLOCK_ROWS, SECONDS, read, shape
from bench.loads import WORK

MOST_ROWS = 50_000  # that trees are grown on

Run = Callable[[], Any]


def main() -> None:
    """Print one line a table and number of rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", metavar="TABLE:TARGET")
    parser.add_argument("--rows", default="1,32,256")
    parser.add_argument("--trees", default="100,1000")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of the bundles (default %(default)s)")
    given = parser.parse_args()
    counts = [int(count) for count in given.trees.split(",")] if importlib.util.find_spec("lightgbm") else []
    if not counts:
        print("LightGBM is not installed (pip install lightgbm): no trees")
    for each in given.tables:
        path, _, target = each.rpartition(":")
        folder = trained(Path(path), target, given.work / "real")
        weights = read(folder)
        print(f"{Path(path).stem}: {shape(weights)}; µs of processor time a run, and the multiple of the bare network")
        arrays, wanted = read_rows(folder, Path(path), target)
        forests = {f"{count} trees": grown(arrays, wanted, count) for count in counts}
        for rows in map(int, given.rows.split(",")):
            part = arrays.take(slice(0, rows))
            joined = side_by_side(part)
            runs: dict[str, Run] = {
                "network": network(weights, rows),
                "whole": engine(float32.export(weights.preprocess, weights.folded).SerializeToString(), part),
                "exact": engine(build(weights).model, part),
                **{name: partial(predict, joined) for name, predict in forests.items()},
            }
            costs = timed(runs, rows)
            shown = [f"{name} {cost:.1f} ({cost / costs['network']:.2f})" for name, cost in costs.items()]
            print(f"  {rows:>4} rows: {', '.join(shown)}", flush=True)


def trained(table: Path, target: str, models: Path) -> Path:
    """Return the bundle of a table, trained where it is not there yet."""
    folder = models / table.stem / "1"
    if not folder.exists():
        command = [sys.executable, "-m", "batchproof.training", str(table), "--target", target, "--name", table.stem]
        subprocess.run([*command, "--epochs", "1", "--quiet", "--models", str(models)], check=True)
    return folder


def read_rows(folder: Path, table: Path, target: str) -> tuple[Arrays, np.ndarray]:
    """Return the table's first rows as the engine gets them, and their targets as numbers."""
    signature = reader.read(folder).manifest.signature
    rows = parquet.read_table(table).slice(0, MOST_ROWS)
    rows = rows.filter(compute.is_valid(rows[target]))
    names = [feature.name for feature in signature.inputs]
    values = rows[target].combine_chunks()
    wanted = values if pa.types.is_floating(values.type) else values.dictionary_encode().indices
    return encode_columns(signature, {name: rows[name].to_pylist() for name in names}), wanted.to_numpy()


def side_by_side(arrays: Arrays) -> np.ndarray:
    """Return numbers and codes as one matrix [rows, columns] float64."""
    return np.concatenate([part.astype(np.float64) for part in arrays if part is not None], axis=1)


def grown(arrays: Arrays, wanted: np.ndarray, count: int) -> Callable[[np.ndarray], Any]:
    """Return what predicts with `count` trees of LightGBM."""
    import lightgbm

    codes = 0 if arrays.categorical is None else arrays.categorical.shape[1]
    joined = side_by_side(arrays)
    places = list(range(joined.shape[1] - codes, joined.shape[1]))
    objective = "regression" if wanted.dtype.kind == "f" else "binary"
    data = lightgbm.Dataset(joined, wanted, categorical_feature=places, free_raw_data=False)
    booster = lightgbm.train({"objective": objective, "num_threads": 1, "verbosity": -1}, data, count)
    return partial(booster.predict, num_threads=1)


def network(weights: Weights, rows: int) -> Run:
    """Return a run of the layers alone, on `rows` encoded rows."""
    graph, members = Graph(), weights.folded.members
    width = members[0].layers[0].weight.shape[1]
    x = graph.input("x", TensorProto.FLOAT, width)
    summed = ""
    for number, member in enumerate(members):
        scores = float32.member_scores(graph, member, x, number)
        summed = graph.add("Add", [summed, scores], "ensemble") if summed else scores
    float32.outputs(graph, summed, weights.folded.output, len(members[0].layers[-1].bias))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph.model("network").SerializeToString(), options)
    feed = {"x": np.random.default_rng(0).normal(size=(rows, width)).astype(np.float32)}
    return partial(session.run, None, feed)


def engine(model: bytes, arrays: Arrays) -> Run:
    """Return a run of a whole graph by the service's engine."""
    return partial(Engine(model, EngineOptions(device="cpu", threads=1)).run, list(arrays))


def timed(runs: Mapping[str, Run], rows: int, seconds: float = SECONDS) -> dict[str, float]:
    """Return the median processor time of each run in microseconds, taken over `seconds` a run."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    times = max(1, BLOCK_ROWS // rows)
    end = time.perf_counter() + seconds * len(runs)
    while time.perf_counter() < end:
        for name, run in runs.items():
            run()  # fills the caches
            begun = time.process_time()
            for _ in range(times):
                run()
            taken[name].append((time.process_time() - begun) / times)
    return {name: median(costs) * 1e6 for name, costs in taken.items()}


if __name__ == "__main__":
    main()
