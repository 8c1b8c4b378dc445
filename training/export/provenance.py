"""Provenance of a bundle: the data, the split, every setting, the chosen plan, and the libraries."""

import os
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
from batchproof.training.prove.monotone import features
from batchproof.training.settings import SettingError, Settings

LIBRARIES = ("numpy", "onnx", "onnxruntime", "pyarrow", "scikit-learn", "torch")
PRIVATE = (
    "card",
    "live",
    "memory",
    "models",
    "processes",
    "resume",
    "tensorboard",
    "test",
)  # settings that only concern the training host


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
        **times(seconds),
        "data": source(data),
        "split": {part: len(getattr(data.split, part)) for part in Split._fields},
        **({} if data.keys is None else {"split_by": data.keys.described(data.split)}),
        "dropped": {drop.name: drop.reason for drop in data.schema.dropped},
        "warnings": list(warnings),
        **({"monotone": features.stated(data.monotone)} if data.monotone else {}),
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


def times(seconds: float) -> dict[str, Any]:
    """Return when the bundle was made and how long it took; only the time that SOURCE_DATE_EPOCH sets, where it does.

    Raises SettingError where that is not a number of seconds.
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if not epoch:
        return {"created": datetime.now(UTC).isoformat(timespec="seconds"), "seconds": round(seconds, 1)}
    try:
        return {"created": datetime.fromtimestamp(int(epoch), UTC).isoformat(timespec="seconds")}
    except (ValueError, OverflowError, OSError) as error:
        raise SettingError(
            f"SOURCE_DATE_EPOCH is {epoch!r}: it must be seconds since 1970, such as 1700000000."
        ) from error


def source(data: Dataset) -> dict[str, Any]:
    """Return what identifies the table, without its folder."""
    table = data.table
    return {"file": table.path.name, "sha256": table.sha256, "rows": len(data.target.y), "columns": len(table.names)}
