"""What is known of a tensor while some inputs move in their directions and all others stay: its interval, and where it goes.

A tensor is described by one row: its arrays have length 1 along the row axis.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Trend:
    """One row of a tensor, element by element."""

    low: np.ndarray  # float64, no element is ever less
    high: np.ndarray
    up: np.ndarray  # bool, whether the element never falls
    down: np.ndarray  # bool, whether the element never rises
    stored: np.ndarray | None = None  # the value of a tensor that stands in the file, in its own type

    @property
    def still(self) -> np.ndarray:
        """Where the element stays as it is, bool."""
        still: np.ndarray = self.up & self.down
        return still

    def moved(self, move: Callable[[np.ndarray], np.ndarray]) -> "Trend":
        """Return the trend of the elements in other places."""
        low, high, up, down = (np.asarray(move(part)) for part in (self.low, self.high, self.up, self.down))
        return Trend(low, high, up, down, None if self.stored is None else np.asarray(move(self.stored)))


def of_constant(value: np.ndarray) -> Trend:
    """Describe a stored tensor."""
    known = value.astype(np.float64)
    still = np.ones(value.shape, bool)
    return Trend(known, known, still, still, value)


def of_input(directions: np.ndarray) -> Trend:
    """Describe a graph input [rows, width] whose columns move in these directions [width]: 1 up, -1 down, 0 not at all."""
    row = directions[None, :]
    return trend(np.full(row.shape, -np.inf), np.full(row.shape, np.inf), row >= 0, row <= 0)


def trend(low: np.ndarray, high: np.ndarray, up: np.ndarray, down: np.ndarray) -> Trend:
    """Describe a computed tensor: an element that has one value only stays, and an end that is not known is infinite."""
    low = np.where(np.isnan(low), -np.inf, low)
    high = np.where(np.isnan(high), np.inf, high)
    single = low == high
    shape = np.broadcast_shapes(low.shape, up.shape)
    up, down = np.broadcast_to(up | single, shape), np.broadcast_to(down | single, shape)
    return Trend(np.broadcast_to(low, shape), np.broadcast_to(high, shape), up, down)


def unbounded(up: np.ndarray, down: np.ndarray) -> Trend:
    """Describe a computed tensor of which no end is known."""
    return trend(np.full(up.shape, -np.inf), np.full(up.shape, np.inf), up, down)
