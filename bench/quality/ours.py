"""Ours, from file to bundle: the training command in a process of its own, on the split that is given."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.quality.tables import Split

FLAGS = {"ours": (), "quick": ("--quick",)}  # of each method of ours, beside what says which table and split
PART = "split"


def ours(split: Split, method: str) -> dict[str, float]:
    """Train a bundle and return the metrics of the served outputs on the test rows.

    `seconds` are those of the whole command, the start of Python included; `cpu_seconds` those of the processor.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{split.name}.parquet"
        frame = split.frame.assign(**{split.target: split.y, PART: "train"})
        frame.loc[frame.index[split.validation], PART] = "validation"
        frame.loc[frame.index[split.test], PART] = "test"
        frame.to_parquet(path)
        before, start_s = _cpu_s(), time.monotonic()
        command = [sys.executable, "-m", "batchproof.training", *_words(split, path), *FLAGS[method]]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
        seconds, cpu_s = round(time.monotonic() - start_s, 2), round(_cpu_s() - before, 2)
        bundle = json.loads((Path(folder) / split.name / "1" / "bundle.json").read_text())
    metrics = {name: value for name, value in bundle["metrics"].items() if isinstance(value, float)}
    loss = metrics.get("log_loss", metrics.get("rmse"))
    return {"seconds": seconds, "cpu_seconds": cpu_s, "loss": loss, **metrics}


def _words(split: Split, path: Path) -> list[str]:
    given = {"target": split.target, "task": split.task, "split-column": PART, "models": str(path.parent)}
    given |= {"seed": str(split.seed), "threads": "1", "device": "cpu"}
    words = [str(path), "--quiet", *(word for name, value in given.items() for word in (f"--{name}", value))]
    return [*words, *(word for name in split.categorical for word in ("--categorical", name))]


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
