"""Encoded rows as tensors on one device: what the network reads and what it is held to."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from batchproof.training.network.objective import Objective
from batchproof.training.preprocessing.preprocess import Preprocess, Raw


class Rows(NamedTuple):
    """Whole tensors: there is no loader, batches are taken by index."""

    x: Tensor  # [rows, width] float32
    codes: Tensor | None  # [rows, embeddings] int64
    y: Tensor  # [rows] int64 class codes or float32 standard units
    weight: Tensor | None = None  # [rows] float32, 1 for the mean training row; None: all rows count alike

    def take(self, index: Tensor) -> "Rows":
        """Rows by index [n] int64."""
        return self._each(lambda part: part.index_select(0, index))

    def to(self, device: torch.device) -> "Rows":
        """Return the same rows on another device."""
        return self._each(lambda part: part.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Rows":
        codes, weight = (None if part is None else change(part) for part in (self.codes, self.weight))
        return Rows(change(self.x), codes, change(self.y), weight)

    def weighed(self, losses: Tensor) -> Tensor:
        """Return the losses [rows, ...] times each row's weight."""
        if self.weight is None:
            return losses
        return losses * self.weight.view(-1, *(1,) * (losses.dim() - 1))


def encode(
    preprocess: Preprocess, target: Objective, raw: Raw, y: np.ndarray, weight: np.ndarray | None = None
) -> Rows:
    """Encode raw feature values and y [rows] (class codes or float64 values); `weight` [rows] float32."""
    codes = None
    if raw.categorical is not None and len(preprocess.embedded):
        codes = torch.from_numpy(np.ascontiguousarray(raw.categorical[:, preprocess.embedded], dtype=np.int64))
    x = torch.from_numpy(preprocess.transform(raw))
    return Rows(x, codes, target.encode(y), None if weight is None else torch.from_numpy(weight))


def sample(rows: int, most: int, seed: int) -> Tensor:
    """Return at most `most` row numbers of `rows`, drawn without repetition [n] int64."""
    if rows <= most:
        return torch.arange(rows)
    return torch.randperm(rows, generator=torch.Generator().manual_seed(seed))[:most].sort().values
