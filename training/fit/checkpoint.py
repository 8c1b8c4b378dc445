"""A fit's state on disk, so that a killed run goes on: one safetensors file (no pickle), replaced whole."""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from batchproof.training.data.dataset import Dataset
from batchproof.training.settings import Settings

if TYPE_CHECKING:  # it takes seconds to load
    from torch import Tensor

INTERVAL_S = 10.0  # a checkpoint may cost more than a short epoch: at most so often


class CheckpointError(ValueError):
    """A checkpoint that cannot be gone on from; the message is one sentence."""


class Checkpoint:
    """The checkpoint of one run; `key` says what run it is: the data and every setting."""

    def __init__(self, path: Path, key: Mapping[str, object], *, interval_s: float = INTERVAL_S) -> None:
        """Keep the state at `path`."""
        self.path = path
        self.key = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()
        self._interval_s = interval_s
        self._last_s = -interval_s

    def save(self, state: Mapping[str, "Tensor"]) -> None:
        """Replace the file, unless it was replaced a moment ago."""
        from safetensors.torch import save

        now = time.monotonic()
        if now - self._last_s < self._interval_s:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        with part.open("wb") as file:
            file.write(save({name: tensor.contiguous() for name, tensor in state.items()}, {"key": self.key}))
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.path)
        self._last_s = time.monotonic()

    def load(self) -> "dict[str, Tensor]":
        """Return the saved state; CheckpointError where there is none, or where it is another run's."""
        if not self.path.exists():
            raise CheckpointError(f"there is no checkpoint {self.path} to resume from: leave --resume out.")
        try:
            with safe_open(self.path, framework="pt") as file:
                if (file.metadata() or {}).get("key") != self.key:
                    raise CheckpointError(
                        f"the checkpoint {self.path} is of other data or settings: give the same ones, or leave --resume out."
                    )
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open has no __iter__
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"the checkpoint {self.path} cannot be read: {error}.") from error

    def remove(self) -> None:
        """Delete the file, where there is one."""
        self.path.unlink(missing_ok=True)


NOT_KEYED = ("models", "resume", "tensorboard", "version")  # settings that change no fit


def run_of(data: Dataset, settings: Settings) -> dict[str, Any]:
    """Return what makes two runs the same run."""
    told = {name: value for name, value in asdict(settings).items() if name not in NOT_KEYED}
    return {"data": data.table.sha256, "settings": told}
