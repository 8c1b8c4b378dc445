"""Encoded rows as tensors on one device: the inputs of the network and the targets of its loss.

Encoded, a number takes up to 200 bytes, and 8 in the table. So rows for which there is no room are kept as they
are in the table, and encoded when they are taken: an encoding looks at one row at a time, which gives the same bits.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from batchproof.service.features.arrays import Arrays
from batchproof.training.network.objective import Objective
from batchproof.training.preprocessing.preprocess import Encoder, Preprocess

EXPANDED_BYTES = 128 << 20  # of encoded rows that are kept in any case
PIECE_ROWS = 16_384  # rows that are moved to another device at a time


class Rows(NamedTuple):
    """Whole tensors: there is no data loader, batches are selected by index."""

    x: Tensor  # [rows, width] float32
    codes: Tensor | None  # [rows, embeddings] int64
    y: Tensor  # [rows] int64 class codes or float32 standard units; of several targets [rows, targets]
    weight: Tensor | None = None  # [rows] float32, mean 1 over the training rows; None: all rows count equally
    row_weight: Tensor | None = None  # [rows] float32, the same without the weights of classes

    def take(self, index: Tensor) -> "Rows":
        """Return the rows with these indices [n] int64."""
        return self._map(lambda part: part.index_select(0, index))

    def cut(self, start: int, stop: int) -> "Rows":
        """Return the rows from `start` to `stop`, or to the last one."""
        return self._map(lambda part: part[start:stop])

    def to(self, device: torch.device) -> "Rows":
        """Return the same rows on another device."""
        return self._map(lambda part: part.to(device))

    def codes_of(self, column: int) -> Tensor:
        """Return the codes that occur in one embedded column [codes] int64."""
        assert self.codes is not None, "the rows have embedded columns"
        return torch.from_numpy(np.unique(self.codes[:, column].cpu().numpy()))

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Rows":
        codes, *weights = (
            None if part is None else function(part) for part in (self.codes, self.weight, self.row_weight)
        )
        return Rows(function(self.x), codes, function(self.y), *weights)

    def weighed(self, losses: Tensor) -> Tensor:
        """Return the losses [rows, ...] times each row's weight."""
        return _weighed(losses, self.weight)


@dataclass(frozen=True)
class CompactRows:
    """Rows on the CPU that are encoded when they are taken."""

    encoder: Encoder
    embedded: np.ndarray  # [embeddings] int64, columns of the categorical features
    raw: Arrays
    y: Tensor
    weight: Tensor | None = None
    row_weight: Tensor | None = None

    def take(self, index: Tensor) -> Rows:
        """Return the rows with these indices [n] int64."""
        return self._encoded(self.raw.take(index.numpy()), lambda part: part.index_select(0, index))

    def cut(self, start: int, stop: int) -> Rows:
        """Return the rows from `start` to `stop`, or to the last one."""
        return self._encoded(self.raw.take(slice(start, stop)), lambda part: part[start:stop])

    def to(self, device: torch.device) -> "HeldRows":
        """Return the rows, encoded where they move to another device: its memory is meant for them."""
        if device.type == "cpu":
            return self
        pieces = [self.cut(start, start + PIECE_ROWS).to(device) for start in range(0, len(self.y), PIECE_ROWS)]
        codes, *weights = (
            _joined([getattr(piece, name) for piece in pieces]) for name in ("codes", "weight", "row_weight")
        )
        return Rows(torch.cat([piece.x for piece in pieces]), codes, torch.cat([piece.y for piece in pieces]), *weights)

    def codes_of(self, column: int) -> Tensor:
        """Return the codes that occur in one embedded column [codes] int64."""
        assert self.raw.categorical is not None, "the rows have embedded columns"
        return torch.from_numpy(np.unique(self.raw.categorical[:, self.embedded[column]]))

    def weighed(self, losses: Tensor) -> Tensor:
        """Return the losses [rows, ...] times each row's weight."""
        return _weighed(losses, self.weight)

    def _encoded(self, raw: Arrays, select: Callable[[Tensor], Tensor]) -> Rows:
        x = torch.from_numpy(self.encoder.encode(raw))
        weights = (None if each is None else select(each) for each in (self.weight, self.row_weight))
        return Rows(x, _codes(raw, self.embedded), select(self.y), *weights)


HeldRows: TypeAlias = Rows | CompactRows


def encode(
    preprocess: Preprocess,
    objective: Objective,
    raw: Arrays,
    y: np.ndarray,
    weight: np.ndarray | None = None,
    row_weight: np.ndarray | None = None,
    room_bytes: int = 0,
) -> HeldRows:
    """Encode raw feature values and y [rows] (class codes or float64 values); both weights [rows] float32.

    Encoded rows that take more than `room_bytes`, and are not small, are encoded when they are taken.
    """
    weights = [None if each is None else torch.from_numpy(each) for each in (weight, row_weight)]
    encoder, targets = preprocess.encoder(), objective.encode(y)
    if len(y) * preprocess.width * np.dtype(np.float32).itemsize > max(EXPANDED_BYTES, room_bytes):
        return CompactRows(encoder, preprocess.embedded, raw, targets, *weights)
    return Rows(torch.from_numpy(encoder.encode(raw)), _codes(raw, preprocess.embedded), targets, *weights)


def in_one(pieces: Iterable[Tensor], rows: int) -> Tensor:
    """Return the results [n, ...] that come piece by piece as one tensor [rows, ...]; without any, an empty one.

    A list of small tensors, each made beside the large ones of its piece, would keep malloc from using their room again.
    """
    whole, start = torch.empty(0), 0
    for piece in pieces:
        whole = whole if start else piece.new_empty(rows, *piece.shape[1:])
        whole[start : start + len(piece)] = piece
        start += len(piece)
    return whole


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present else None


def _weighed(losses: Tensor, weight: Tensor | None) -> Tensor:
    return losses if weight is None else losses * weight.view(-1, *(1,) * (losses.dim() - 1))


def _codes(raw: Arrays, embedded: np.ndarray) -> Tensor | None:
    """Return the codes of the embedded columns [rows, embeddings] int64; None where there are none."""
    if raw.categorical is None or not len(embedded):
        return None
    return torch.from_numpy(np.ascontiguousarray(raw.categorical[:, embedded], dtype=np.int64))


def sample(rows: int, most: int, seed: int) -> Tensor:
    """Return at most `most` of the numbers below `rows`, drawn without replacement [n] int64."""
    if rows <= most:
        return torch.arange(rows)
    return torch.randperm(rows, generator=torch.Generator().manual_seed(seed))[:most].sort().values
