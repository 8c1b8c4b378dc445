"""Class 2: pure data movement. Values stay what they are, and each row stays whole.

Sound: an element of the result is an element of an operand, of the same row, in a place that the file fixes. Where an
operator could work along the row axis, or its places could depend on the number of rows, it is refused.
Tensors whose row axis is the last one come from products; they may be reshaped in front of it and laid side by side.
"""

from collections.abc import Iterable
from dataclasses import replace
from math import prod

import numpy as np

from batchproof.training.prove.box import Box, merged
from batchproof.training.prove.limits import shown
from batchproof.training.prove.node import Node, Rule
from batchproof.training.prove.operators.forms import MAX_NUMBERS

MAX_LOOKUPS = 2**24  # entries of a table that one Gather's distinct intervals of codes may cover
MAX_INTERVALS = 2**16  # how many of them there may be


def identity(call: Node) -> Box:
    """Return the tensor itself."""
    return call.boxes[0]


def gather(call: Node) -> Box:
    """Columns of a tensor by constant indices, or rows of a constant table by codes proved to be in range.

    Sound: no index is negative or beyond the end, where engines fail, count from the end or read zeros.
    """
    data, indices = call.boxes
    need_rows_first(call)
    axis = normal(call, call.attributes.get("axis", 0), data.low.ndim)
    keep_rows(call, data, axis)
    check_range(call, indices, data.low.shape[axis])
    call.need_room([*data.low.shape[:axis], *indices.low.shape, *data.low.shape[axis + 1 :]])
    if indices.constant:
        if data.rowed and indices.low.ndim > 1:
            raise call.refuse("a Gather of columns takes indices of one axis")
        return data.moved(lambda part: np.take(part, indices.low, axis=axis))
    if data.rowed or axis != 0:
        raise call.refuse("a Gather by codes reads a constant table along its first axis")
    return rows_of_table(call, data, indices)


def rows_of_table(call: Node, table: Box, codes: Box) -> Box:
    """Return what the rows from the least to the greatest code hold, for each code."""

    def read(first: int, last: int) -> Box:
        part = slice(first, last + 1)
        low, high = table.low[part].min(axis=0), table.high[part].max(axis=0)
        nan = np.asarray(table.nan[part].any(axis=0))
        return Box(np.asarray(low), np.asarray(high), np.asarray(table.exponent[part].min(axis=0)), nan, codes.rows)

    ends = np.stack([codes.low.reshape(-1), codes.high.reshape(-1)], axis=1)
    ranges, which = np.unique(ends, axis=0, return_inverse=True)
    entries = int((ranges[:, 1] - ranges[:, 0] + 1).sum()) * (table.low.size // len(table.low))
    if entries > MAX_LOOKUPS or len(ranges) > MAX_INTERVALS:
        raise call.refuse(f"{len(ranges)} intervals of codes, which cover {entries} entries of the table: too many")
    shape = codes.low.shape + table.low.shape[1:]
    known = [read(int(first), int(last)) for first, last in ranges]
    return merged(known, lambda parts: np.stack(parts)[which.reshape(-1)].reshape(shape))


def check_range(call: Node, indices: Box, size: int) -> None:
    """Refuse codes that may fall outside a table of `size` rows."""
    low, high = int(indices.low.min()), int(indices.high.max())
    if low < 0 or high >= size:
        raise call.refuse(f"codes may range from {low} to {high}, the table has {size} rows: Clip them first")


def concat(call: Node) -> Box:
    """Concatenate tensors, each with the row axis or without one.

    Sound: all have the same row axis, and another one is joined. A constant has no number of rows, so it cannot be joined to rows.
    """
    first = call.boxes[0].low
    axis = normal(call, call.attributes["axis"], first.ndim)
    if len({box.rows for box in call.boxes}) > 1:
        raise call.refuse("a tensor of rows can be joined only with tensors that have the same row axis")
    for box in call.boxes:
        keep_rows(call, box, axis)
    lengths = [box.low.shape[axis] if axis < box.low.ndim else 0 for box in call.boxes]
    call.need_room([*first.shape[:axis], sum(lengths), *first.shape[axis + 1 :]])
    return merged(call.boxes, lambda parts: np.concatenate(parts, axis=axis))


def reshape(call: Node) -> Box:
    """Give the same row another shape: the first axis must stay the rows.

    Sound: the lengths behind the rows hold one row's elements exactly, so the free length is the number of rows.
    """
    data, target = call.boxes
    shape = constants(call, target)
    if min(shape, default=0) < -1 or shape.count(-1) > 1:
        raise call.refuse(f"{shape} is not a valid shape")
    if data.rows:
        return reshape_before_rows(call, data, shape)
    wanted = [data.low.shape[place] if length == 0 else length for place, length in enumerate(shape)]
    if data.rowed:
        per_row = prod(data.low.shape[1:])
        free = bool(shape) and (shape[0] == 0 or (shape[0] == -1 and prod(wanted[1:]) == per_row))
        if not free:
            raise call.refuse(f"the shape {shape} does not keep the row axis")
        wanted[0] = 1
    call.need_room([abs(length) for length in wanted])
    return data.moved(lambda part: part.reshape(wanted))


def reshape_before_rows(call: Node, data: Box, shape: list[int]) -> Box:
    """Give the axes before a last row axis another shape.

    Sound: they hold as many elements as before, so the free length, the last one, is the number of rows.
    """
    before, last = shape[:-1], shape[-1] if shape else 0
    filled = min(before, default=0) > 0 and prod(before) == data.low.size
    if data.rows != data.low.ndim - 1 or last != -1 or not filled:
        raise call.refuse(f"the shape {shape} does not keep the row axis, which is the last one")
    call.need_room([*before, 1])
    return replace(data.moved(lambda part: part.reshape([*before, 1])), rows=len(before))


def expand(call: Node) -> Box:
    """Repeat a tensor along axes that are not the rows.

    Sound: the wanted length of the row axis is 1, which leaves any number of rows as it is.
    """
    data, target = call.boxes
    need_rows_first(call)
    shape = constants(call, target)
    wanted = np.broadcast_shapes(data.low.shape, tuple(shape))
    if data.rowed and (len(wanted) != data.low.ndim or wanted[0] != 1):
        raise call.refuse(f"the shape {shape} does not keep the row axis")
    call.need_room(wanted)
    return data.moved(lambda part: np.broadcast_to(part, wanted))


def unsqueeze(call: Node) -> Box:
    """Add axes of length 1, behind the rows.

    Sound: the axes are constant, each named once, and none comes before the rows.
    """
    data, axes = call.boxes
    need_rows_first(call)
    places = distinct(call, constants(call, axes), data.low.ndim + axes.low.size)
    for place in places:
        keep_rows(call, data, place)
    return data.moved(lambda part: np.expand_dims(part, places))


def squeeze(call: Node) -> Box:
    """Drop named axes of length 1, not the rows.

    Sound: the axes are constant, each named once; without them a single row would lose its row axis.
    """
    if len(call.boxes) < 2:
        raise call.refuse("the axes must be constant: without them a single row would lose its row axis")
    need_rows_first(call)
    data = call.boxes[0]
    places = distinct(call, constants(call, call.boxes[1]), data.low.ndim)
    for place in places:
        keep_rows(call, data, place)
    return data.moved(lambda part: np.squeeze(part, places))


def transpose(call: Node) -> Box:
    """Axes in another order, the rows first as before.

    Sound: the order is fixed by the file, names each axis once, and leaves the rows in their place.
    """
    (data,) = call.boxes
    need_rows_first(call)
    order = [int(axis) for axis in call.attributes.get("perm", reversed(range(data.low.ndim)))]
    if sorted(order) != list(range(data.low.ndim)):
        raise call.refuse(f"perm is {order}; it must name each of {data.low.ndim} axes once")
    if data.rowed and order[0] != 0:
        raise call.refuse("the row axis must stay first")
    return data.moved(lambda part: np.transpose(part, order))


def slices(call: Node) -> Box:
    """Cut a part out of a tensor, along axes that are not the rows.

    Sound: starts, ends, axes and steps are constant, and the lengths they cut are known; ends beyond the last element,
    or counted from it, mean the same to all.
    """
    data, *rest = call.boxes
    need_rows_first(call)
    if len(rest) < 3:
        raise call.refuse("starts, ends and axes must be constant")
    starts, ends, axes, *steps = (constants(call, box) for box in rest)
    cut = [slice(None)] * data.low.ndim
    places = distinct(call, axes, data.low.ndim)
    for place, start, end, step in zip(places, starts, ends, *(steps or [[1] * len(axes)]), strict=True):
        keep_rows(call, data, place)
        if step < 1:
            raise call.refuse("only forward slices are supported")
        cut[place] = slice(start, end, step)
    result = data.moved(lambda part: part[tuple(cut)])
    call.need_room(result.low.shape)
    return result


def constants(call: Node, box: Box) -> list[int]:
    """Return the numbers of an operand that shapes or axes depend on; refuses any but a constant list."""
    if not box.constant or box.low.ndim != 1:
        raise call.refuse(f"{shown(box.name)} must be a constant list of numbers")
    if box.low.size > MAX_NUMBERS:
        raise call.refuse(f"{shown(box.name)} has {box.low.size} numbers; at most {MAX_NUMBERS} are read")
    return [int(number) for number in box.low]


def need_rows_first(call: Node) -> None:
    """Refuse an operand whose row axis is another than the first."""
    for box in call.boxes:
        if box.rows:
            raise call.refuse(f"the row axis of {shown(box.name)} must be the first axis")


def keep_rows(call: Node, box: Box, axis: int) -> None:
    """Refuse an operation along the row axis."""
    if axis == box.rows:
        raise call.refuse("works along the row axis: the result would mix rows")


def distinct(call: Node, axes: Iterable[int], rank: int) -> tuple[int, ...]:
    """Return axes counted from the front; refuses none at all, and one that is named twice."""
    places = tuple(normal(call, axis, rank) for axis in axes)
    if not places or len(set(places)) != len(places):
        raise call.refuse("its axes must be given, each exactly once")
    return places


def normal(call: Node, axis: int, rank: int) -> int:
    """Return an axis counted from the front."""
    if not -rank <= axis < rank:
        raise call.refuse(f"axis {axis} does not exist: its operand has {rank} axes")
    return axis % rank


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
