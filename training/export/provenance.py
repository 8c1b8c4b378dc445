"""Provenance of a bundle: the data, the split, every setting, the chosen plan, and the libraries."""

import platform
from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch

from batchproof.training.data.dataset import Dataset
from batchproof.training.data.rows.split import Split
from batchproof.training.fit.context import Fitted
from batchproof.training.settings import Settings

LIBRARIES = ("numpy", "onnx", "onnxruntime", "pyarrow", "scikit-learn", "torch")
PRIVATE = ("card", "models", "resume", "tensorboard", "test")  # settings that name places on the training host


def collect(
    data: Dataset,
    settings: Settings,
    fitted: Fitted,
    warnings: Sequence[str],
    parity: dict[str, float],
    seconds: float,
) -> dict[str, Any]:
    """Return the object `provenance` of bundle.json."""
    unset = {entry.name: entry.default for entry in fields(Settings) if entry.metadata["where_set"]}
    published = {
        name: value
        for name, value in asdict(settings).items()
        if name not in PRIVATE and not (name in unset and value == unset[name])
    }
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "data": source(data),
        "split": {part: len(getattr(data.split, part)) for part in Split._fields},
        **({} if data.keys is None else {"split_by": data.keys.described(data.split)}),
        "dropped": {drop.name: drop.reason for drop in data.schema.dropped},
        "warnings": list(warnings),
        "seed": settings.seed,
        "settings": published,
        "chosen": fitted.chosen,
        "epochs": {
            "run": len(fitted.result.history),
            "best": fitted.result.best.number,
            "stopped": fitted.result.stopped,
        },
        "parity": parity,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES},
        "machine": {"architecture": platform.machine(), "threads": torch.get_num_threads()},
    }


def source(data: Dataset) -> dict[str, Any]:
    """Return what identifies the table, without its folder."""
    table = data.table
    return {"file": table.path.name, "sha256": table.sha256, "rows": len(data.target.y), "columns": len(table.names)}
