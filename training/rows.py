"""Encoded rows as tensors on one device: what the network reads and what it is held to."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from training.preprocess import Preprocess, Raw
from training.target import Target


class Rows(NamedTuple):
    """Whole tensors: there is no loader, batches are taken by index."""

    x: Tensor  # [rows, width] float32
    codes: Tensor | None  # [rows, embeddings] int64
    y: Tensor  # [rows] int64 class codes or float32 standard units

    def take(self, index: Tensor) -> "Rows":
        """Rows by index [n] int64."""
        codes = None if self.codes is None else self.codes.index_select(0, index)
        return Rows(self.x.index_select(0, index), codes, self.y.index_select(0, index))

    def to(self, device: torch.device) -> "Rows":
        """Return the same rows on another device."""
        return Rows(self.x.to(device), None if self.codes is None else self.codes.to(device), self.y.to(device))


def encode(preprocess: Preprocess, target: Target, raw: Raw, y: np.ndarray) -> Rows:
    """Encode raw feature values and y [rows] (class codes or float64 values)."""
    codes = None
    if raw.categorical is not None and len(preprocess.embedded):
        codes = torch.from_numpy(np.ascontiguousarray(raw.categorical[:, preprocess.embedded], dtype=np.int64))
    return Rows(torch.from_numpy(preprocess.transform(raw)), codes, target.encode(y))
