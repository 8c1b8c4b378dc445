"""Ours, from file to bundle: the training command's own line with its defaults, on the split that is given."""

import tempfile
from pathlib import Path

import torch

from batchproof.training.pipeline import train
from batchproof.training.settings import make
from bench.quality.tables import Split

PART = "split"


def ours(split: Split) -> dict[str, float]:
    """Train a bundle and return the metrics of the served outputs on the test rows."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{split.name}.parquet"
        frame = split.frame.assign(**{split.target: split.y, PART: "train"})
        frame.loc[frame.index[split.validation], PART] = "validation"
        frame.loc[frame.index[split.test], PART] = "test"
        frame.to_parquet(path)
        given = {"target": split.target, "task": split.task, "split_column": PART, "models": folder}
        given |= {"categorical": split.categorical, "seed": split.seed, "threads": 1, "device": "cpu"}
        found = train(path, make(given)).metrics
    return {"loss": found.get("log_loss", found.get("rmse")), **found}
