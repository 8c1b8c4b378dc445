"""Operands brought to one shape, and the boxes of elementwise results.

Sound because the row axis may only meet the row axis or a length that is always 1: a result's element of a row is
computed from elements of that row and from constants, whatever the number of rows.
"""

from dataclasses import replace

import numpy as np

from batchproof.training.prove.box import Box, on_grid
from batchproof.training.prove.limits import shown
from batchproof.training.prove.node import Node


def broadcast(call: Node) -> list[Box]:
    """Bring operands to one shape; the row axis must meet the row axis and nothing else."""
    places = {(box.low.ndim, box.rows) for box in call.boxes if box.rowed}  # the rank, and which axis
    if len(places) > 1:
        raise call.refuse("the row axes of the operands do not match: the result would mix rows")
    rank, rows = next(iter(places), (0, None))
    for box in call.boxes:
        if rows is not None and not box.rowed and not leaves_rows(box.low.shape, rank, rows):
            raise call.refuse(f"the constant {shown(box.name)} must not vary along the row axis")
    shape = np.broadcast_shapes(*(box.low.shape for box in call.boxes))
    call.need_room(shape)
    return [spread(box, shape, rows) for box in call.boxes]


def leaves_rows(shape: tuple[int, ...], rank: int, rows: int) -> bool:
    """Whether a constant of `shape` broadcasts to a tensor of `rank` axes without touching its axis `rows`."""
    place = rows - (rank - len(shape))  # shapes meet at their last axes
    return len(shape) <= rank and (place < 0 or shape[place] == 1)


def spread(box: Box, shape: tuple[int, ...], rows: int | None) -> Box:
    """Broadcast a box; a condition's facts hold only for tensors of its own shape."""
    if box.low.shape == shape and box.rows == rows:
        return box
    wide = replace(box.moved(lambda part: np.broadcast_to(part, shape)), rows=rows)
    return replace(wide, covers=box.covers, spares=box.spares) if box.low.shape == shape else wide


def numeric(low: np.ndarray, high: np.ndarray, exponent: np.ndarray, nan: np.ndarray, *, rows: int | None) -> Box:
    """Make the box of a float result: unknown ends (inf - inf) widened, the others moved inwards to the grid."""
    exponent = exponent if exponent.shape == low.shape else np.broadcast_to(exponent, low.shape)
    nan = nan if nan.shape == low.shape else np.broadcast_to(nan, low.shape)
    if low.dtype.kind == "f":
        low = np.where(np.isnan(low), np.asarray(-np.inf, low.dtype), low)
        high = np.where(np.isnan(high), np.asarray(np.inf, high.dtype), high)
        low, high = on_grid(low, high, exponent)
    return Box(low, high, exponent, nan, rows)


def whole(call: Node, low: np.ndarray, high: np.ndarray, like: Box) -> Box:
    """Make the box of integer arithmetic with ends of any size [shape] object, in the type of `like`.

    Sound because the ends are Python's integers, which do not wrap, and what may not fit the type is refused: within
    it every engine's result is the mathematical one.
    """
    info = np.iinfo(like.dtype)
    low, high = np.asarray(low, object), np.asarray(high, object)
    least, most = low.min(), high.max()
    if least < info.min or most > info.max:
        raise call.refuse(f"integers from {least} to {most} may not fit {like.dtype}: they would wrap around")
    shape = low.shape
    free = np.zeros(shape, np.int64), np.zeros(shape, bool)
    return Box(low.astype(like.dtype), high.astype(like.dtype), *free, like.rows)


def exact(ends: np.ndarray) -> np.ndarray:
    """Return integers as an array of Python's integers [shape] object."""
    return np.asarray(ends.astype(object), object)


def truth(a: Box, covers: frozenset[str] = frozenset(), spares: frozenset[str] = frozenset()) -> Box:
    """Make the box of a condition on the elements of `a`."""
    off, on = np.zeros(a.low.shape, bool), np.ones(a.low.shape, bool)
    return Box(off, on, np.zeros(a.low.shape, np.int64), off, a.rows, covers=covers, spares=spares)


def holds_zero(box: Box) -> np.ndarray:
    """Return where the box contains zero."""
    return np.asarray((box.low <= 0) & (box.high >= 0))


def holds_infinity(box: Box) -> np.ndarray:
    """Return where the box contains an infinity."""
    return np.asarray(np.isinf(box.low) | np.isinf(box.high))
