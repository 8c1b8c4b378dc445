"""Class 2: pure data movement. Values stay what they are, and each row stays whole.

Tensors whose row axis is the last one come from products; they may be reshaped in front of it and laid side by side.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from batchproof.training.prove.box import Box, merged
from batchproof.training.prove.node import Node, Rule


def identity(call: Node) -> Box:
    """Return the tensor itself."""
    return call.boxes[0]


def gather(call: Node) -> Box:
    """Columns of a tensor by constant indices, or rows of a constant table by codes proved to be in range."""
    data, indices = call.boxes
    need_rows_first(call)
    axis = normal(call.attributes.get("axis", 0), data.low.ndim)
    keep_rows(call, data, axis)
    check_range(call, indices, data.low.shape[axis])
    if indices.constant:
        if data.rowed and indices.low.ndim > 1:
            raise call.refuse("a Gather of columns takes indices of one axis")
        return data.moved(lambda part: np.take(part, indices.low, axis=axis))
    if data.rowed or axis != 0:
        raise call.refuse("a Gather by codes reads a constant table along its first axis")
    return rows_of_table(data, indices)


def rows_of_table(table: Box, codes: Box) -> Box:
    """Return what the rows from the least to the greatest code hold, for each code."""

    def read(code: tuple[int, int]) -> Box:
        part = slice(code[0], code[1] + 1)
        low, high = table.low[part].min(axis=0), table.high[part].max(axis=0)
        return Box(low, high, table.exponent[part].min(axis=0), np.asarray(table.nan[part].any(axis=0)), codes.rows)

    ranges = [(int(low), int(high)) for low, high in zip(codes.low.flat, codes.high.flat, strict=True)]
    known = {code: read(code) for code in set(ranges)}
    shape = codes.low.shape + table.low.shape[1:]
    return merged([known[code] for code in ranges], lambda parts: np.stack(parts).reshape(shape))


def check_range(call: Node, indices: Box, size: int) -> None:
    """Refuse codes that may fall outside a table of `size` rows."""
    low, high = int(indices.low.min(initial=0)), int(indices.high.max(initial=0))
    if low < 0 or high >= size:
        raise call.refuse(f"codes may range from {low} to {high}, the table has {size} rows: Clip them first")


def concat(call: Node) -> Box:
    """Tensors side by side, each with the row axis or none."""
    axis = normal(call.attributes["axis"], call.boxes[0].low.ndim)
    if len({box.rows for box in call.boxes}) > 1:
        raise call.refuse("a constant, or a tensor with another row axis, cannot stand beside a tensor of rows")
    for box in call.boxes:
        keep_rows(call, box, axis)
    return merged(call.boxes, lambda parts: np.concatenate(parts, axis=axis))


def reshape(call: Node) -> Box:
    """Give the same row another shape: the first axis must stay the rows."""
    data, shape = call.boxes
    if not shape.constant or call.attributes.get("allowzero"):
        raise call.refuse("the shape must be constant, and 0 mean the axis itself")
    if data.rows:
        return reshape_before_rows(call, data, shape.low.tolist())
    wanted = [data.low.shape[i] if length == 0 else length for i, length in enumerate(shape.low.tolist())]
    if data.rowed:
        per_row = int(np.prod(data.low.shape[1:]))
        rest = [length for length in wanted[1:] if length != -1]
        free = shape.low[0] == 0 or (shape.low[0] == -1 and int(np.prod(rest)) == per_row)
        if not free:
            raise call.refuse(f"the shape {shape.low.tolist()} does not keep the row axis")
        wanted[0] = 1
    return data.moved(lambda part: part.reshape(wanted))


def reshape_before_rows(call: Node, data: Box, shape: list[int]) -> Box:
    """Give the axes before a last row axis another shape: as many elements in each row, and the rows last as before."""
    before, last = shape[:-1], shape[-1]
    whole = min(before, default=0) > 0 and int(np.prod(before)) == data.low.size
    if data.rows != data.low.ndim - 1 or last != -1 or not whole:
        raise call.refuse(f"the shape {shape} does not keep the row axis, which is the last one")
    return replace(data.moved(lambda part: part.reshape([*before, 1])), rows=len(before))


def expand(call: Node) -> Box:
    """Repeat a tensor along axes that are not the rows."""
    data, shape = call.boxes
    need_rows_first(call)
    if not shape.constant:
        raise call.refuse("the shape must be constant")
    wanted = np.broadcast_shapes(data.low.shape, tuple(shape.low.tolist()))
    if data.rowed and (len(wanted) != data.low.ndim or wanted[0] != 1):
        raise call.refuse(f"the shape {shape.low.tolist()} does not keep the row axis")
    return data.moved(lambda part: np.broadcast_to(part, wanted))


def unsqueeze(call: Node) -> Box:
    """Add axes of length 1, behind the rows."""
    data, axes = call.boxes
    need_rows_first(call)
    places = tuple(normal(axis, data.low.ndim + axes.low.size) for axis in axes.low.tolist())
    for place in places:
        keep_rows(call, data, place)
    return data.moved(lambda part: np.expand_dims(part, places))


def squeeze(call: Node) -> Box:
    """Drop named axes of length 1, not the rows."""
    if len(call.boxes) < 2 or not call.boxes[1].constant:
        raise call.refuse("the axes must be constant: without them a single row would lose its row axis")
    need_rows_first(call)
    data = call.boxes[0]
    places = tuple(normal(axis, data.low.ndim) for axis in call.boxes[1].low.tolist())
    for place in places:
        keep_rows(call, data, place)
    return data.moved(lambda part: np.squeeze(part, places))


def transpose(call: Node) -> Box:
    """Axes in another order, the rows first as before."""
    (data,) = call.boxes
    need_rows_first(call)
    order: Any = call.attributes.get("perm", tuple(reversed(range(data.low.ndim))))
    if data.rowed and order[0] != 0:
        raise call.refuse("the row axis must stay first")
    return data.moved(lambda part: np.transpose(part, order))


def slices(call: Node) -> Box:
    """Cut a part out of a tensor, along axes that are not the rows."""
    data, *rest = call.boxes
    need_rows_first(call)
    if len(rest) < 3 or not all(box.constant for box in rest):
        raise call.refuse("starts, ends and axes must be constant")
    starts, ends, axes = (box.low.tolist() for box in rest[:3])
    steps = rest[3].low.tolist() if len(rest) > 3 else [1] * len(axes)
    cut = [slice(None)] * data.low.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        keep_rows(call, data, normal(axis, data.low.ndim))
        if step < 1:
            raise call.refuse("only forward slices are known")
        cut[normal(axis, data.low.ndim)] = slice(start, end, step)
    return data.moved(lambda part: part[tuple(cut)])


def need_rows_first(call: Node) -> None:
    """Refuse an operand whose row axis is another than the first."""
    for box in call.boxes:
        if box.rows:
            raise call.refuse(f"the row axis of {box.name} is not the first, the only place known here")


def keep_rows(call: Node, box: Box, axis: int) -> None:
    """Refuse an operation along the row axis."""
    if axis == box.rows:
        raise call.refuse("works along the row axis: the result would mix rows")


def normal(axis: Any, rank: int) -> int:
    """Return an axis counted from the front; IndexError where there is no such axis."""
    return range(rank)[int(axis)]


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
