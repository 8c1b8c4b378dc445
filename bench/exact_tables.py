"""Exact arithmetic on every table of a folder: accuracy, saturation, margins, and the same bits in every evaluation.

    python -m bench.exact_tables FOLDER [--epochs 10] [--widths 128,128] [--ensemble 2] [--only penguins,adult]

FOLDER holds Parquet files and meta.json with {"<table>": {"target": ...}}. Each table is trained briefly straight to
an exact bundle; what is shown is the bundle's own statement, and a comparison of output bits over engine options,
batch sizes, the reference evaluator of ONNX and a NumPy evaluation with randomly permuted sums. Exit status 1 where
anything differs or a score is further than 1e-4 of its spread from the float64 network's.
"""

import argparse
import json
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from batchproof.service.bundle import reader as bundle
from batchproof.service.inference.engine import Engine, EngineOptions
from batchproof.training.export.exact.optimiser import LEVELS
from batchproof.training.pipeline import Trained, train
from batchproof.training.settings import make
from tests.permuted import evaluate

SIZES = (*range(1, 18), 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 1024, 4096)
SLOW_ROWS = 200  # rows of the two slow evaluations
LARGEST_ERROR = 1e-4  # of the scores' spread
HEAD = ("table", "test rows", "saturated", "score error", "prob. error", "metric float64", "exact", "margin", "bits")


def main() -> int:
    """Print one line a table; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--widths", default="128,128")
    parser.add_argument("--ensemble", type=int, default=2)
    parser.add_argument("--only", default="", help="names of tables, separated by commas")
    given = parser.parse_args()
    tables = json.loads((given.folder / "meta.json").read_text())
    names = [name for name in tables if not given.only or name in given.only.split(",")]
    line(HEAD)
    held = [show(given.folder, name, tables[name]["target"], given) for name in names]
    return int(not all(held))


def show(folder: Path, name: str, target: str, given: argparse.Namespace) -> bool:
    """Train one table and print its line; returns whether all holds."""
    settings = {"epochs": given.epochs, "ensemble": given.ensemble, "encoding": "quantile", "threads": 1}
    with tempfile.TemporaryDirectory() as models:
        widths = tuple(int(width) for width in given.widths.split(","))
        chosen = make({"target": target, "models": models, "arithmetic": "exact", "widths": widths, **settings})
        trained = train(folder / f"{name}.parquet", chosen)
        found = bundle.read(trained.folder)
    accuracy, certificate = found.manifest.arithmetic.accuracy, found.manifest.arithmetic.certificate
    assert accuracy is not None, "an exact bundle states its accuracy"
    assert certificate is not None, "an exact bundle has a certificate"
    different = differences(found.model, trained)
    before, after = (first_metric(accuracy["metrics"][kind]) for kind in ("float64", "exact"))
    close = accuracy.get("score_error", 0.0) <= LARGEST_ERROR and f"{before:.4g}" == f"{after:.4g}"
    line(
        (
            name,
            str(accuracy["rows"]),
            f"{accuracy['saturated_share']:.5f}",
            f"{accuracy.get('score_error', 0.0):.1e}",
            f"{accuracy.get('probability_relative_error', 0.0):.1e}",
            f"{before:.4g}",
            f"{after:.4g}",
            f"{certificate['least_margin_bits']:.3f}",
            "equal" if not different else f"DIFFER: {', '.join(different)}",
        )
    )
    return close and not different


def differences(model: bytes, trained: Trained) -> list[str]:
    """Return the evaluations of the test rows whose bits are not those of each row alone."""
    feeds = [None if array is None else array[:4096] for array in trained.data.arrays["test"]]
    rows = next(len(array) for array in feeds if array is not None)
    first = Engine(model, EngineOptions(device="cpu"))
    alone = [first.run(cut(feeds, np.array([row]))) for row in range(rows)]
    wanted = {name: np.concatenate([outputs[name] for outputs in alone]) for name in alone[0]}
    found = []
    for level, threads, packed in product(LEVELS, (1, 2), (True, False)):
        entries = () if packed else (("session.disable_prepacking", "1"),)
        options = EngineOptions(device="cpu", optimisation=level, threads=threads, entries=entries)
        if differ(Engine(model, options).run(feeds), wanted):
            found.append(f"{level}/{threads} threads/{'prepacked' if packed else 'not prepacked'}")
    random = np.random.default_rng(0)
    for size in SIZES:
        chosen = random.integers(0, rows, size)
        if differ(first.run(cut(feeds, chosen)), {name: array[chosen] for name, array in wanted.items()}):
            found.append(f"batch of {size}")
    return found + slow_differences(model, cut(feeds, np.arange(min(rows, SLOW_ROWS))), wanted)


def slow_differences(model: bytes, feeds: list[Any], wanted: dict[str, np.ndarray]) -> list[str]:
    """Compare the reference evaluator and permuted sums on a few rows."""
    parsed = onnx.load_model_from_string(model)
    pairs = zip(("numeric", "categorical"), feeds, strict=True)
    named = {name: array for name, array in pairs if array is not None}
    rows = len(next(iter(named.values())))
    few = {name: array[:rows] for name, array in wanted.items()}
    with np.errstate(all="ignore"):
        outputs = ReferenceEvaluator(parsed).run(None, named)
    found = []
    if differ(dict(zip([value.name for value in parsed.graph.output], outputs, strict=True)), few):
        found.append("reference evaluator")
    if any(differ(evaluate(parsed, named, np.random.default_rng(seed)), few) for seed in range(2)):
        found.append("permuted sums")
    return found


def differ(found: dict[str, Any], wanted: dict[str, np.ndarray]) -> bool:
    """Whether any output has other bits."""
    return any(found[name].tobytes() != array.tobytes() for name, array in wanted.items())


def cut(feeds: list[Any], rows: np.ndarray) -> list[Any]:
    """Return some rows of the feeds."""
    return [None if array is None else array[rows] for array in feeds]


def first_metric(metrics: dict[str, Any]) -> float:
    """Return the first metric after the number of rows."""
    return float(next(value for name, value in metrics.items() if name != "rows"))


def line(cells: tuple[str, ...]) -> None:
    """Print cells in columns."""
    widths = (14, 9, 9, 11, 11, 14, 9, 6, 0)
    print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
