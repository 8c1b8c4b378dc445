"""A fit's state on disk, so that a killed run can resume: one safetensors file (no pickle), replaced atomically."""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from batchproof.training.data.dataset import Dataset
from batchproof.training.option_groups import CARD
from batchproof.training.settings import Settings

if TYPE_CHECKING:  # it takes seconds to load
    from torch import Tensor

RULES = 8  # raised where what settings leave open becomes another plan, so that no run resumes into it
INTERVAL_S = 10.0  # least time between two saves: one may take longer than a short epoch


class CheckpointError(ValueError):
    """A checkpoint that cannot be resumed from; the message is one sentence."""


class Checkpoint:
    """The checkpoint of one run, which `key` identifies: see `run_key`."""

    def __init__(self, path: Path, key: str, *, interval_s: float = INTERVAL_S) -> None:
        """Keep the state at `path`."""
        self.path = path
        self.key = key
        self._interval_s = interval_s
        self._last_s = -interval_s

    def save(self, state: Mapping[str, "Tensor"]) -> None:
        """Replace the file, unless it was replaced less than the interval ago. Raises CheckpointError on a full disk."""
        from safetensors.torch import save

        now = time.monotonic()
        if now - self._last_s < self._interval_s:
            return
        content = save({name: tensor.contiguous() for name, tensor in state.items()}, {"key": self.key})
        part = self.path.with_suffix(".part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _write(part, content)
            part.replace(self.path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise CheckpointError(f"the checkpoint {self.path} cannot be written: {error.strerror}.") from error
        self._last_s = time.monotonic()

    def load(self) -> "dict[str, Tensor]":
        """Return the saved state; raises CheckpointError if there is none, or if it belongs to another run."""
        return decoded(self.read())

    def read(self) -> bytes:
        """Return the file's content, checked as `load` checks it; raises CheckpointError."""
        if not self.path.exists():
            raise CheckpointError(nothing_to_resume(self.path))
        try:
            with safe_open(self.path, framework="pt") as file:
                if (file.metadata() or {}).get("key") != self.key:
                    raise CheckpointError(
                        f"the checkpoint {self.path} belongs to other data or settings: use the same ones, or run without --resume."
                    )
            return self.path.read_bytes()
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"the checkpoint {self.path} cannot be read: {error}.") from error

    def remove(self) -> None:
        """Delete the file, where there is one."""
        self.path.unlink(missing_ok=True)


def nothing_to_resume(path: Path) -> str:
    """Return the sentence for a run that is to resume from a checkpoint that does not exist."""
    return f"there is no checkpoint {path} to resume from: run without --resume."


def decoded(content: bytes) -> "dict[str, Tensor]":
    """Return the state in the content of a checkpoint."""
    from safetensors.torch import load

    return load(content)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


NOT_KEYED = {  # settings that do not change a fit
    *("alias", "live", "memory", "mlflow", "models", "processes", "register", "resume", "tensorboard", "version"),
    *("arithmetic", "class_prior", "golden_rows", "threshold"),  # they say what is made of the fitted network
    *(field.name for field in fields(Settings) if field.metadata["group"] == CARD),
}


def run_key(data: Dataset, settings: Settings, shards: int | None = None) -> str:
    """Return the SHA-256 of what decides a fit: data, the settings that change it, and into how many shards batches are cut."""
    key = {"data": data.table.sha256, "rules": RULES, "settings": deciding(settings)}
    key |= {"shards": shards} if shards else {}
    return hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()


def deciding(settings: Settings) -> dict[str, Any]:
    """Return the settings that change a fit, by name."""
    return {name: value for name, value in asdict(settings).items() if name not in NOT_KEYED}
