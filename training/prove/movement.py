"""Class 2: pure data movement. Values stay what they are; the row axis stays axis 0 and whole."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from training.prove.box import Box, ProofError
from training.prove.elementwise import Attributes, Rule

Move = Callable[[np.ndarray], np.ndarray]


def identity(node: str, boxes: Sequence[Box], attributes: Attributes) -> Box:
    """The tensor itself."""
    return boxes[0]


def gather(node: str, boxes: Sequence[Box], attributes: Attributes) -> Box:
    """Columns of a tensor by constant indices, or rows of a constant table by codes proved to be in range."""
    data, indices = boxes
    axis = normal(attributes.get("axis", 0), data.low.ndim)
    keep_rows(node, data, axis)
    check_range(node, indices, data.low.shape[axis])
    if indices.constant:
        if data.rowed and indices.low.ndim > 1:
            raise ProofError(node, "a Gather of columns takes indices of one axis")
        return moved(data, lambda part: np.take(part, indices.low, axis=axis))
    if data.rowed or axis != 0:
        raise ProofError(node, "a Gather by codes reads a constant table along its first axis")
    return rows_of_table(data, indices)


def rows_of_table(table: Box, codes: Box) -> Box:
    """What the rows from the least to the greatest code hold, for each code."""
    found: dict[tuple[int, int], list[np.ndarray]] = {}
    picks = [(int(low), int(high)) for low, high in zip(codes.low.flat, codes.high.flat, strict=True)]
    for low, high in set(picks):
        part = slice(low, high + 1)
        found[low, high] = [
            table.low[part].min(axis=0),
            table.high[part].max(axis=0),
            table.exponent[part].min(axis=0),
            table.nan[part].any(axis=0),
        ]
    shape = codes.low.shape + table.low.shape[1:]
    parts = [np.stack([found[pick][index] for pick in picks]).reshape(shape) for index in range(4)]
    return Box(*parts, rowed=codes.rowed)


def check_range(node: str, indices: Box, size: int) -> None:
    """Refuse codes that may fall outside a table of `size` rows."""
    low, high = int(indices.low.min(initial=0)), int(indices.high.max(initial=0))
    if low < 0 or high >= size:
        raise ProofError(node, f"codes may range from {low} to {high}, the table has {size} rows: Clip them first")


def concat(node: str, boxes: Sequence[Box], attributes: Attributes) -> Box:
    """Tensors side by side, each with the row axis or none."""
    axis = normal(attributes["axis"], boxes[0].low.ndim)
    if len({box.rowed for box in boxes}) > 1:
        raise ProofError(node, "a constant cannot stand beside a tensor of rows")
    for box in boxes:
        keep_rows(node, box, axis)
    parts = [np.concatenate([getattr(box, name) for box in boxes], axis=axis) for name in PARTS]
    return Box(*parts, rowed=boxes[0].rowed)


def reshape(node: str, boxes: Sequence[Box], attributes: Attributes) -> Box:
    """Another shape of the same row: the first axis must stay the rows."""
    data, shape = boxes
    if not shape.constant or attributes.get("allowzero"):
        raise ProofError(node, "the shape must be constant, and 0 mean the axis itself")
    wanted = [data.low.shape[i] if length == 0 else length for i, length in enumerate(shape.low.tolist())]
    if data.rowed:
        per_row = int(np.prod(data.low.shape[1:]))
        rest = [length for length in wanted[1:] if length != -1]
        free = shape.low[0] == 0 or (shape.low[0] == -1 and int(np.prod(rest)) == per_row)
        if not free:
            raise ProofError(node, f"the shape {shape.low.tolist()} does not keep the row axis")
        wanted[0] = 1
    return moved(data, lambda part: part.reshape(wanted))


def expand(node: str, boxes: Sequence[Box], attributes: Attributes) -> Box:
    """A tensor repeated along axes that are not the rows."""
    data, shape = boxes
    if not shape.constant:
        raise ProofError(node, "the shape must be constant")
    wanted = np.broadcast_shapes(data.low.shape, tuple(shape.low.tolist()))
    if data.rowed and (len(wanted) != data.low.ndim or wanted[0] != 1):
        raise ProofError(node, f"the shape {shape.low.tolist()} does not keep the row axis")
    return moved(data, lambda part: np.broadcast_to(part, wanted))


def unsqueeze(node: str, boxes: Sequence[Box], attributes: Attributes) -> Box:
    """New axes of length 1, behind the rows."""
    data, axes = boxes
    places = tuple(normal(axis, data.low.ndim + axes.low.size) for axis in axes.low.tolist())
    for place in places:
        keep_rows(node, data, place)
    return moved(data, lambda part: np.expand_dims(part, places))


def squeeze(node: str, boxes: Sequence[Box], attributes: Attributes) -> Box:
    """Drop named axes of length 1, not the rows."""
    if len(boxes) < 2 or not boxes[1].constant:
        raise ProofError(node, "the axes must be constant: without them a single row would lose its row axis")
    data = boxes[0]
    places = tuple(normal(axis, data.low.ndim) for axis in boxes[1].low.tolist())
    for place in places:
        keep_rows(node, data, place)
    return moved(data, lambda part: np.squeeze(part, places))


def transpose(node: str, boxes: Sequence[Box], attributes: Attributes) -> Box:
    """Axes in another order, the rows first as before."""
    (data,) = boxes
    order: Any = attributes.get("perm", tuple(reversed(range(data.low.ndim))))
    if data.rowed and order[0] != 0:
        raise ProofError(node, "the row axis must stay first")
    return moved(data, lambda part: np.transpose(part, order))


def slices(node: str, boxes: Sequence[Box], attributes: Attributes) -> Box:
    """A part of a tensor along axes that are not the rows."""
    data, *rest = boxes
    if len(rest) < 3 or not all(box.constant for box in rest):
        raise ProofError(node, "starts, ends and axes must be constant")
    starts, ends, axes = (box.low.tolist() for box in rest[:3])
    steps = rest[3].low.tolist() if len(rest) > 3 else [1] * len(axes)
    cut = [slice(None)] * data.low.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        keep_rows(node, data, normal(axis, data.low.ndim))
        if step < 1:
            raise ProofError(node, "only forward slices are known")
        cut[normal(axis, data.low.ndim)] = slice(start, end, step)
    return moved(data, lambda part: part[tuple(cut)])


def moved(box: Box, move: Move) -> Box:
    """Apply one movement to all that is known of a tensor."""
    parts = {name: move(getattr(box, name)) for name in PARTS}
    return replace(box, **parts, covers=frozenset(), spares=frozenset(), rounds="")


def keep_rows(node: str, box: Box, axis: int) -> None:
    """Refuse an operation along the row axis."""
    if box.rowed and axis == 0:
        raise ProofError(node, "works along the row axis: the result would mix rows")


def normal(axis: Any, rank: int) -> int:
    """Return an axis counted from the front."""
    return int(axis) % rank


PARTS = ("low", "high", "exponent", "nan")
RULES: dict[str, Rule] = {
    "Identity": identity,
    "Gather": gather,
    "Concat": concat,
    "Reshape": reshape,
    "Expand": expand,
    "Unsqueeze": unsqueeze,
    "Squeeze": squeeze,
    "Transpose": transpose,
    "Slice": slices,
}
