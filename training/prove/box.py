"""What is known about a tensor for any rows: the interval and the grid of its values, and whether it may be NaN.

A tensor that has a row axis is described by one row: its arrays have length 1 along that axis. An operator that would
mix rows has no meaning on such an array and is refused, so a proof also shows that no row affects another.

A zero has no sign here: engines decide which of the two zeros an element is, so no rule may depend on it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from batchproof.training.prove.limits import shown

FINEST = -1074  # every finite float64 is an integer multiple of 2^-1074: the grid of a value nothing is known about
ZERO_GRID = 4096  # zero is a multiple of every power of two
PIECE = 2**20  # elements of a stored constant that are looked at together


class ProofError(Exception):
    """The file cannot be certified: which node, and why."""

    def __init__(self, node: str, reason: str) -> None:
        """Name the node and the reason."""
        super().__init__(f"{shown(node)}: {reason}")
        self.node = node
        self.reason = reason


@dataclass(frozen=True)
class Box:
    """Every value a tensor may take, element by element.

    Integers are exact, of the tensor's own width. The ends of floats that are neither 0 nor infinite lie on the grid.
    """

    low: np.ndarray  # the tensor's dtype and shape, 1 along the row axis
    high: np.ndarray
    exponent: np.ndarray  # int64, each finite value is an integer multiple of 2^exponent
    nan: np.ndarray  # bool, whether the value may be NaN
    rows: int | None  # which axis is the row axis; None: the tensor is the same for every row
    name: str = ""
    covers: frozenset[str] = frozenset()  # of a bool tensor: true wherever one of these tensors is NaN
    spares: frozenset[str] = frozenset()  # of a bool tensor: false wherever one of these tensors is NaN
    rounds: str = ""  # of a result of Round: the tensor that was rounded to the nearest integer
    makers: frozenset[str] = frozenset()  # the operators that computed it; data movement leaves them as they were
    stored: bool = False  # whether its elements stand in the file, the signs of zeros included

    @property
    def rowed(self) -> bool:
        """Whether the tensor has a row axis."""
        return self.rows is not None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type of the tensor."""
        return self.low.dtype

    @property
    def constant(self) -> bool:
        """Whether the tensor has one value only."""
        return not self.rowed and not self.nan.any() and bool(np.array_equal(self.low, self.high))

    @property
    def finite(self) -> bool:
        """Whether neither NaN nor an infinity can occur."""
        return not self.nan.any() and bool(np.isfinite(self.low).all() and np.isfinite(self.high).all())

    @property
    def magnitude(self) -> np.ndarray:
        """Greatest absolute value of each element, float64."""
        return np.maximum(np.abs(self.low.astype(np.float64)), np.abs(self.high.astype(np.float64)))

    def moved(self, move: Callable[[np.ndarray], np.ndarray]) -> "Box":
        """Return the box of the tensor's elements in other places; what is known of conditions is lost."""
        low, high, exponent, nan = (np.asarray(move(part)) for part in (self.low, self.high, self.exponent, self.nan))
        return Box(low, high, exponent, nan, self.rows, self.name, makers=self.makers, stored=self.stored)

    def called(self, name: str) -> "Box":
        """Return the same box for the tensor `name`."""
        return replace(self, name=name)


def of_constant(value: np.ndarray, name: str) -> Box:
    """Describe a constant tensor; NaN and infinities in it stay, and are checked where they are used."""
    nan = np.isnan(value) if value.dtype.kind == "f" else np.zeros(value.shape, bool)
    known = np.where(nan, np.zeros((), value.dtype), value) if nan.any() else value
    return Box(known, known, grid_of(value), nan, rows=None, name=name, stored=True)


def of_input(width: int, dtype: np.dtype[Any], name: str) -> Box:
    """Describe a graph input [rows, width]: any value of its type."""
    shape = (1, width)
    if dtype.kind == "f":
        low, high, exponent = -np.inf, np.inf, FINEST
    else:
        low, high, exponent = np.iinfo(dtype).min, np.iinfo(dtype).max, 0
    return Box(
        np.full(shape, low, dtype),
        np.full(shape, high, dtype),
        np.full(shape, exponent, np.int64),
        np.full(shape, dtype.kind == "f"),
        rows=0,
        name=name,
    )


def grid_of(value: np.ndarray) -> np.ndarray:
    """Return the exponent of the coarsest power of two that each element is a multiple of [shape] int64."""
    if value.dtype.kind != "f":
        return np.zeros(value.shape, np.int64)
    flat, exponents = value.reshape(-1), np.empty(value.size, np.int64)
    for start in range(0, value.size, PIECE):  # in pieces: the steps below take ten times the memory of their operand
        exponents[start : start + PIECE] = float_grid(flat[start : start + PIECE])
    return exponents.reshape(value.shape)


def float_grid(value: np.ndarray) -> np.ndarray:
    """Return `grid_of` floats [count]; what is not finite has the grid of zero."""
    finite = np.where(np.isfinite(value), value, 0.0).astype(np.float64)
    mantissa, exponent = np.frexp(np.abs(finite))
    digits = np.ldexp(mantissa, 53).astype(np.int64)  # an integer below 2^53
    lowest = np.frexp((digits & -digits).astype(np.float64))[1] - 1  # index of the lowest set bit
    return np.where(finite == 0.0, ZERO_GRID, exponent.astype(np.int64) - 53 + lowest)


def power(exponent: np.ndarray) -> np.ndarray:
    """Return 2^exponent as float64: at most 2^1023 (the grid of zero fits any), 0 where float64 has no such power."""
    value: np.ndarray = np.ldexp(1.0, np.clip(exponent, FINEST - 1, 1023).astype(np.int32))
    return value


def on_grid(low: np.ndarray, high: np.ndarray, exponent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Move the ends of intervals of floats inwards to multiples of 2^exponent, which all values between them are.

    A float of 2^52 units and more is a multiple of the unit already. If the quotient by the unit underflows, it
    becomes 0, which makes the interval wider, never narrower.
    """
    if (exponent <= FINEST).all():
        return low, high
    unit = power(exponent)
    moved = []
    for end, inwards in ((low, np.ceil), (high, np.floor)):
        near = np.abs(end) < 2.0**52 * unit
        whole = inwards(np.where(near, end, 0.0) / unit) * unit
        moved.append(np.where(near, whole.astype(end.dtype) + np.zeros((), end.dtype), end))
    held = moved[0] <= moved[1]
    return np.where(held, moved[0], low), np.where(held, moved[1], high)


def merged(boxes: Sequence[Box], merge: Callable[[list[np.ndarray]], np.ndarray]) -> Box:
    """Return the box of several tensors laid together."""
    low, high = merge([box.low for box in boxes]), merge([box.high for box in boxes])
    makers = frozenset[str]().union(*(box.makers for box in boxes))
    exponent, nan = merge([box.exponent for box in boxes]), merge([box.nan for box in boxes])
    return Box(low, high, exponent, nan, boxes[0].rows, makers=makers, stored=all(box.stored for box in boxes))
