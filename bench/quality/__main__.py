"""`python -m bench.quality FOLDER`: fit every method on every table and seed, and print who wins by how much.

Each fit is one line appended to the results file: a second run goes on where the first stopped.
"""

import argparse
import importlib.util
import json
import time
from pathlib import Path

from bench.quality import report
from bench.quality.ours import FLAGS, ours
from bench.quality.peers import PEERS
from bench.quality.scores import score
from bench.quality.tables import Split, label, names, splits

NEEDS = {
    "lightgbm": "lightgbm",
    "catboost": "catboost",
    "realmlp": "pytabkit",
    "tabm": "pytabkit",
    **dict.fromkeys(FLAGS, "torch"),
}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.quality", description=__doc__)
    parser.add_argument("folder", type=Path, help="tables as NAME.parquet and a meta.json")
    parser.add_argument("--only", type=listed, default=None, help="tables, with commas between")
    parser.add_argument("--rows", type=int, default=None, help="a sample of so many rows of larger tables")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 … N-1 (%(default)s)")
    parser.add_argument("--methods", type=listed, default=None, help="methods; left out: all that are installed")
    parser.add_argument("--results", type=Path, default=Path("out/quality.jsonl"), help="one line a fit (%(default)s)")
    parser.add_argument("--report", action="store_true", help="only print the table of what is there")
    return parser.parse_args()


def listed(text: str) -> list[str]:
    """Split at commas."""
    return [part for part in text.split(",") if part]


def installed() -> list[str]:
    """Methods whose library is here."""
    return [name for name in [*PEERS, *FLAGS] if importlib.util.find_spec(NEEDS.get(name, "sklearn")) is not None]


def measure(split: Split, method: str) -> dict[str, object]:
    """Fit one method on one split and score it."""
    start = time.monotonic()
    scores = ours(split, method) if method in FLAGS else score(split, PEERS[method](split))
    seconds = round(time.monotonic() - start, 2)
    return {"table": split.name, "seed": split.seed, "method": method, "seconds": seconds, **scores}


def main() -> None:
    """Measure what the results file lacks, then print the tables."""
    chosen = arguments()
    chosen.results.parent.mkdir(parents=True, exist_ok=True)
    done = {(row["table"], row["seed"], row["method"]) for row in report.read(chosen.results)}
    tables = chosen.only or names(chosen.folder)
    for name in [] if chosen.report else tables:
        for split in splits(chosen.folder, name, list(range(chosen.seeds)), chosen.rows):
            for method in chosen.methods or installed():
                if (split.name, split.seed, method) not in done:
                    row = measure(split, method)
                    with chosen.results.open("a") as file:
                        file.write(json.dumps(row) + "\n")
                    print(
                        f"{split.name} seed {split.seed} {method}: {row['loss']:.4f} in {row['seconds']} s", flush=True
                    )
    labels = [label(chosen.folder, name, chosen.rows) for name in tables]
    print(report.text(report.read(chosen.results), labels))


if __name__ == "__main__":
    main()
