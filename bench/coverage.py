"""Conformal coverage over the tables of a folder: what is stored as 90 % against what rows that nobody saw say.

    python -m bench.coverage DATA_DIR [--seeds 3] [--most-rows 60000] [--only NAME,NAME]

Each table is trained by the command's own line; the coverages are those of the bundle's `uncertainty.tested`.
A coverage measured on n test rows has a standard error of about sqrt(c (1 - c) / n), which is printed beside it.
"""

import argparse
import json
import math
import tempfile
from pathlib import Path
from statistics import mean

from batchproof.training.pipeline import train
from batchproof.training.settings import make

COVERAGES = ("0.8", "0.9", "0.95")


def main() -> None:
    """Print one line a table as it is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DATA_DIR", help="a folder with meta.json and tables")
    parser.add_argument("--seeds", type=int, default=3, help="splits of each table (default: 3)")
    parser.add_argument("--most-rows", type=int, default=60_000, help="leave larger tables out (default: 60000)")
    parser.add_argument("--only", type=lambda text: text.split(","), help="these tables alone")
    given = parser.parse_args()
    tables = json.loads((given.folder / "meta.json").read_text())
    print("| table | test rows | asked | measured ± standard error | mean size of a set, or width of an interval |")
    print("|---|---:|---:|---:|---:|")
    for name in sorted(tables, key=lambda name: tables[name]["rows"]):
        if tables[name]["rows"] <= given.most_rows and (given.only is None or name in given.only):
            report(name, [tested(given.folder, name, tables[name], seed) for seed in range(given.seeds)])


def tested(folder: Path, name: str, table: dict[str, object], seed: int) -> tuple[int, dict[str, dict[str, float]]]:
    """Train once; return the number of test rows and what was measured at each coverage."""
    with tempfile.TemporaryDirectory() as models:
        given = {"target": table["target"], "task": table["task"], "categorical": table["categorical"]}
        trained = train(folder / f"{name}.parquet", make({**given, "models": models, "seed": seed, "device": "cpu"}))
        content = json.loads((trained.folder / "bundle.json").read_text())
    return int(content["metrics"]["rows"]), content["uncertainty"]["tested"]


def report(name: str, runs: list[tuple[int, dict[str, dict[str, float]]]]) -> None:
    """Print the mean over the splits, one line a coverage."""
    rows = sum(count for count, _ in runs)
    for asked in COVERAGES:
        found = [measured[asked] for _, measured in runs if asked in measured]
        if not found:
            print(f"| {name} | {rows} | {asked} | too few calibration rows | |", flush=True)
            continue
        covered = mean(one["coverage"] for one in found)
        error = math.sqrt(float(asked) * (1 - float(asked)) / rows)
        width = mean(one.get("width", one.get("size", 0.0)) for one in found)
        print(f"| {name} | {rows} | {asked} | {covered:.3f} ± {error:.3f} | {width:.4g} |", flush=True)


if __name__ == "__main__":
    main()
