"""What exact arithmetic costs: the same network exported both ways, timed in turns on this host.

    python -m bench.exact_speed models/NAME/VERSION ... [--rows 1,32,1024] [--threads 1]

Each bundle needs its weights.safetensors; `reference` in the place of a folder is the network of the other benchmarks.
Rows run as the service runs them: more than a run may have are cut, which is sooner for exact arithmetic.
Times are processor time, medians of many blocks taken in turns: what other programs take from the cores is not in
them, and what shares a core's caches and units with others slows both.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median

import numpy as np

from batchproof.service.configuration.settings import RUN_ROWS
from batchproof.service.inference.engine import Engine, EngineOptions
from batchproof.service.inference.model import run_rows_of
from batchproof.service.inference.runner import Feeds, Runner
from batchproof.training.export.exact.build import build
from batchproof.training.export.float32 import export
from batchproof.training.network import weights as weight_files
from batchproof.training.network.weights import Weights
from bench.make_exact import reference

SECONDS = 3.0  # spent on each pair of timings
BLOCK_ROWS = 64  # least rows between two readings of the clock: a reading takes as long as the shortest node


def main() -> None:
    """Print one line a bundle and number of rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", metavar="BUNDLE")
    parser.add_argument("--rows", default="1,32,1024")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    print(f"{'bundle':<28} {'rows':>5} {'float32 µs':>11} {'exact µs':>10} {'ratio':>6} {'more, µs':>9}")
    for bundle in given.bundles:
        weights = reference()[0] if bundle == "reference" else read(Path(bundle))
        name = f"{'reference' if bundle == 'reference' else Path(bundle).parent.name} {shape(weights)}"
        for rows in map(int, given.rows.split(",")):
            single, exact = compare(weights, rows, given.threads)
            print(
                f"{name:<28} {rows:>5} {single:>11.1f} {exact:>10.1f} {exact / single:>6.2f} {exact - single:>9.1f}",
                flush=True,
            )


def read(folder: Path) -> Weights:
    """Read a bundle's network."""
    return weight_files.read(folder / "weights.safetensors", json.loads((folder / "bundle.json").read_text())["task"])


def compare(weights: Weights, rows: int, threads: int) -> tuple[float, float]:
    """Return the median processor time of a request of `rows` rows in microseconds: float32, exact."""
    options = EngineOptions(device="cpu", threads=threads)
    models = {
        "float32": export(weights.preprocess, weights.folded).SerializeToString(),
        "exact": build(weights).model,
    }
    runners = [Runner(Engine(model, options), run_rows_of(kind, options, RUN_ROWS)) for kind, model in models.items()]
    feeds = draw(weights, rows)
    taken: list[list[float]] = [[], []]
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        for runner, times in zip(runners, taken, strict=True):
            times.append(block(runner, feeds, max(1, BLOCK_ROWS // rows)))
    return median(taken[0]) * 1e6, median(taken[1]) * 1e6


def block(runner: Runner, feeds: Feeds, runs: int) -> float:
    """Return the processor time of one request in seconds, the mean of `runs` after one that fills the caches."""
    runner.run([feeds])
    start = time.process_time()
    for _ in range(runs):
        runner.run([feeds])
    return (time.process_time() - start) / runs


def draw(weights: Weights, rows: int) -> list[np.ndarray | None]:
    """Draw rows around the training centre."""
    random = np.random.default_rng(0)
    preprocess = weights.preprocess
    columns = len(preprocess.fill)
    spread = np.where(preprocess.fill == 0.0, 1.0, np.abs(preprocess.fill))
    numeric = preprocess.fill + random.normal(size=(rows, columns)) * spread if columns else None
    codes = random.integers(0, 3, (rows, preprocess.categorical)) if preprocess.categorical else None
    return [numeric, codes]


def shape(weights: Weights) -> str:
    """Return members x inputs-hidden-…-outputs."""
    layers = weights.folded.members[0].layers
    widths = [layers[0].weight.shape[1], *(len(layer.bias) for layer in layers)]
    return f"{len(weights.folded.members)}x{'-'.join(map(str, widths))}"


if __name__ == "__main__":
    main()
