"""What exact arithmetic costs: the same network exported both ways, timed in turns on this host.

    python -m bench.exact_speed models/NAME/VERSION ... [--rows 1,32,1024] [--threads 1]

Each bundle needs its weights.safetensors. Times are the least of many, interleaved, so that a busy host slows both.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from service.engine import Engine, EngineOptions
from training import weights as weight_files
from training.exact import build
from training.export import export
from training.weights import Weights

SECONDS = 3.0  # spent on each pair of timings


def main() -> None:
    """Print one line a bundle and number of rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--rows", default="1,32,1024")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    print(f"{'bundle':<28} {'rows':>5} {'float32 µs':>11} {'exact µs':>10} {'ratio':>6} {'more, µs':>9}")
    for folder in given.bundles:
        task = json.loads((folder / "bundle.json").read_text())["task"]
        weights = weight_files.read(folder / "weights.safetensors", task)
        for rows in map(int, given.rows.split(",")):
            single, exact = compare(weights, rows, given.threads)
            name = f"{folder.parent.name} {shape(weights)}"
            print(
                f"{name:<28} {rows:>5} {single:>11.1f} {exact:>10.1f} {exact / single:>6.2f} {exact - single:>9.1f}",
                flush=True,
            )


def compare(weights: Weights, rows: int, threads: int) -> tuple[float, float]:
    """Return the least time of a run of `rows` rows in microseconds: float32, exact."""
    options = EngineOptions(device="cpu", threads=threads)
    models = (export(weights.preprocess, weights.folded).SerializeToString(), build(weights).model)
    engines = [Engine(model, options) for model in models]
    feeds = draw(weights, rows)
    least = [np.inf, np.inf]
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        for index, engine in enumerate(engines):
            for _ in range(5):
                start = time.perf_counter()
                engine.run(feeds)
                least[index] = min(least[index], time.perf_counter() - start)
    return least[0] * 1e6, least[1] * 1e6


def draw(weights: Weights, rows: int) -> list[np.ndarray | None]:
    """Draw rows around the training centre."""
    random = np.random.default_rng(0)
    preprocess = weights.preprocess
    columns = len(preprocess.fill)
    numeric = preprocess.fill + random.normal(size=(rows, columns)) * np.abs(preprocess.fill) if columns else None
    codes = random.integers(0, 3, (rows, preprocess.categorical)) if preprocess.categorical else None
    return [numeric, codes]


def shape(weights: Weights) -> str:
    """Return members x inputs-hidden-…-outputs."""
    layers = weights.folded.members[0].layers
    widths = [layers[0].weight.shape[1], *(len(layer.bias) for layer in layers)]
    return f"{len(weights.folded.members)}x{'-'.join(map(str, widths))}"


if __name__ == "__main__":
    main()
