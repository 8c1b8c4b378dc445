"""Encoded rows as tensors on one device: the inputs of the network and the targets of its loss."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from batchproof.service.features.arrays import Arrays
from batchproof.training.network.objective import Objective
from batchproof.training.preprocessing.preprocess import Preprocess


class Rows(NamedTuple):
    """Whole tensors: there is no data loader, batches are selected by index."""

    x: Tensor  # [rows, width] float32
    codes: Tensor | None  # [rows, embeddings] int64
    y: Tensor  # [rows] int64 class codes or float32 standard units
    weight: Tensor | None = None  # [rows] float32, mean 1 over the training rows; None: all rows count equally
    row_weight: Tensor | None = None  # [rows] float32, the same without the weights of classes

    def take(self, index: Tensor) -> "Rows":
        """Return the rows with these indices [n] int64."""
        return self._map(lambda part: part.index_select(0, index))

    def to(self, device: torch.device) -> "Rows":
        """Return the same rows on another device."""
        return self._map(lambda part: part.to(device))

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Rows":
        codes, *weights = (
            None if part is None else function(part) for part in (self.codes, self.weight, self.row_weight)
        )
        return Rows(function(self.x), codes, function(self.y), *weights)

    def weighed(self, losses: Tensor) -> Tensor:
        """Return the losses [rows, ...] times each row's weight."""
        if self.weight is None:
            return losses
        return losses * self.weight.view(-1, *(1,) * (losses.dim() - 1))


def encode(
    preprocess: Preprocess,
    objective: Objective,
    raw: Arrays,
    y: np.ndarray,
    weight: np.ndarray | None = None,
    row_weight: np.ndarray | None = None,
) -> Rows:
    """Encode raw feature values and y [rows] (class codes or float64 values); both weights [rows] float32."""
    codes = None
    if raw.categorical is not None and len(preprocess.embedded):
        codes = torch.from_numpy(np.ascontiguousarray(raw.categorical[:, preprocess.embedded], dtype=np.int64))
    x = torch.from_numpy(preprocess.transform(raw))
    weights = (None if each is None else torch.from_numpy(each) for each in (weight, row_weight))
    return Rows(x, codes, objective.encode(y), *weights)


def sample(rows: int, most: int, seed: int) -> Tensor:
    """Return at most `most` of the numbers below `rows`, drawn without replacement [n] int64."""
    if rows <= most:
        return torch.arange(rows)
    return torch.randperm(rows, generator=torch.Generator().manual_seed(seed))[:most].sort().values
