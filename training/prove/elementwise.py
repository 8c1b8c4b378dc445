"""Class 1: one correctly rounded IEEE-754 operation an element, the same bits wherever it is computed.

Rounding to nearest is monotone, so evaluating the ends of an interval in the tensor's own type gives sound bounds.
Rounding a multiple of 2^e gives a multiple of 2^e (or of a coarser power), so grids pass through rounded operations.
"""

from dataclasses import replace

import numpy as np

from batchproof.training.prove.box import FINEST, ZERO_GRID, Box, grid_of
from batchproof.training.prove.node import Node, Rule


def add(call: Node) -> Box:
    """Sum of two tensors."""
    need_finished(call)
    a, b = broadcast(call)
    low, high = a.low + b.low, a.high + b.high
    clash = ((a.low == -np.inf) & (b.high == np.inf)) | ((a.high == np.inf) & (b.low == -np.inf))
    return numeric(low, high, np.minimum(a.exponent, b.exponent), a.nan | b.nan | clash, rows=a.rows)


def sub(call: Node) -> Box:
    """Difference of two tensors; x - Round(x) is at most a half."""
    need_finished(call)
    difference = add(call.on(call.boxes[0], neg(call.on(call.boxes[1]))))
    if not call.boxes[1].rounds or call.boxes[1].rounds != call.boxes[0].name:
        return difference
    half = np.asarray(0.5, difference.dtype)
    return replace(difference, low=np.maximum(difference.low, -half), high=np.minimum(difference.high, half))


def mul(call: Node) -> Box:
    """Product of two tensors; of a tensor with itself, its square."""
    need_finished(call)
    a, b = broadcast(call)
    corners = np.stack([a.low * b.low, a.low * b.high, a.high * b.low, a.high * b.high])
    corners = np.where(np.isnan(corners), np.zeros((), a.dtype), corners)  # 0 * inf: the product may be 0 or NaN
    clash = (holds_zero(a) & holds_infinity(b)) | (holds_zero(b) & holds_infinity(a))
    low = corners.min(axis=0)
    if call.boxes[0].name == call.boxes[1].name:
        low, clash = np.maximum(low, np.zeros((), a.dtype)), np.zeros_like(clash)
    exponent = np.clip(a.exponent + b.exponent, FINEST, ZERO_GRID)
    return numeric(low, corners.max(axis=0), exponent, a.nan | b.nan | clash, rows=a.rows)


def div(call: Node) -> Box:
    """Quotient of two tensors; the divisor must stay away from zero, whose sign is not determined."""
    need_finished(call)
    a, b = broadcast(call)
    if holds_zero(b).any():
        raise call.refuse("the divisor may be zero, and the sign of a zero depends on the engine")
    if call.boxes[0].constant and not call.boxes[1].constant:
        raise call.refuse(
            "a constant over a tensor: engines merge it with a product that follows, and round differently"
        )
    corners = np.stack([a.low / b.low, a.low / b.high, a.high / b.low, a.high / b.high])
    corners = np.where(np.isnan(corners), np.zeros((), a.dtype), corners)
    clash = holds_infinity(a) & holds_infinity(b)
    exponent = np.where(is_power(b), np.clip(a.exponent - b.exponent, FINEST, ZERO_GRID), FINEST)
    return numeric(corners.min(axis=0), corners.max(axis=0), exponent, a.nan | b.nan | clash, rows=a.rows)


def need_finished(call: Node) -> None:
    """Refuse arithmetic on a MatMul's own result: engines merge an Add behind it, or a factor, into the product."""
    for box in call.boxes:
        if box.maker == "MatMul":
            raise call.refuse(f"{box.name} is a MatMul: engines take a sum or a factor behind it into its sums")


def sqrt(call: Node) -> Box:
    """Square root; negative values would be NaN."""
    (a,) = call.boxes
    if (a.low < 0).any():
        raise call.refuse(f"the root of a value as low as {a.low.min():g}")
    return numeric(np.sqrt(a.low), np.sqrt(a.high), np.full_like(a.exponent, FINEST), a.nan, rows=a.rows)


def neg(call: Node) -> Box:
    """Negation."""
    (a,) = call.boxes
    return numeric(-a.high, -a.low, a.exponent, a.nan, rows=a.rows)


def absolute(call: Node) -> Box:
    """Absolute value."""
    (a,) = call.boxes
    ends = np.stack([np.abs(a.low), np.abs(a.high)])
    low = np.where(holds_zero(a), np.zeros((), a.dtype), ends.min(axis=0))
    return numeric(low, ends.max(axis=0), a.exponent, a.nan, rows=a.rows)


def nearest(call: Node) -> Box:
    """Nearest integer, half to even."""
    (a,) = call.boxes
    box = numeric(np.rint(a.low), np.rint(a.high), np.maximum(a.exponent, 0), a.nan, rows=a.rows)
    return replace(box, rounds=a.name)


def floor(call: Node) -> Box:
    """Greatest integer that is not above."""
    (a,) = call.boxes
    return numeric(np.floor(a.low), np.floor(a.high), np.maximum(a.exponent, 0), a.nan, rows=a.rows)


def clip(call: Node) -> Box:
    """Limit a tensor to an interval; passes NaN on, so none may arrive."""
    a, *limits = call.boxes
    result = a
    for limit, pick in zip(limits, ("Max", "Min"), strict=False):
        if limit.name:
            if not limit.constant or limit.low.size != 1:
                raise call.refuse("the limits of a Clip must be constant numbers")
            result = extreme(pick)(call.on(result, limit))
    return extreme("Max")(call.on(result))


def extreme(op: str) -> Rule:
    """Min or Max over tensors; engines differ in what they make of NaN, so none may arrive."""
    function = np.minimum if op == "Min" else np.maximum

    def rule(call: Node) -> Box:
        operands = broadcast(call)
        result = operands[0]
        for box in operands:
            if box.nan.any():
                raise call.refuse(f"NaN may arrive in {box.name or 'an input'}: guard it by IsNaN and Where first")
            low, high = function(result.low, box.low), function(result.high, box.high)
            result = numeric(low, high, np.minimum(result.exponent, box.exponent), result.nan, rows=result.rows)
        return result

    return rule


def where(call: Node) -> Box:
    """Choose between two tensors; a branch that is not taken where it would be NaN brings no NaN."""
    condition, a, b = broadcast(call)
    whole_shape = call.boxes[0].low.shape == condition.low.shape
    nan_a = a.nan & (not (whole_shape and call.boxes[1].name in call.boxes[0].spares))
    nan_b = b.nan & (not (whole_shape and call.boxes[2].name in call.boxes[0].covers))
    exponent = np.minimum(a.exponent, b.exponent)
    return numeric(np.minimum(a.low, b.low), np.maximum(a.high, b.high), exponent, nan_a | nan_b, rows=a.rows)


def is_nan(call: Node) -> Box:
    """Whether an element is NaN."""
    (a,) = call.boxes
    return truth(a, covers=frozenset([a.name]))


def compare(call: Node) -> Box:
    """Equal, Less and the like: false where an operand is NaN."""
    a, _ = broadcast(call)
    return truth(a, spares=frozenset(box.name for box in call.boxes))


def both(call: Node) -> Box:
    """And of two conditions."""
    a, b = broadcast(call)
    return truth(a, a.covers & b.covers, a.spares | b.spares)


def either(call: Node) -> Box:
    """Or of two conditions."""
    a, b = broadcast(call)
    return truth(a, a.covers | b.covers, a.spares & b.spares)


def negated(call: Node) -> Box:
    """Not of a condition."""
    (a,) = call.boxes
    return truth(a, a.spares, a.covers)


def numeric(low: np.ndarray, high: np.ndarray, exponent: np.ndarray, nan: np.ndarray, *, rows: int | None) -> Box:
    """Make a box, with unknown ends (inf - inf) widened and integers on the unit grid."""
    if low.dtype.kind == "f":
        low = np.where(np.isnan(low), np.asarray(-np.inf, low.dtype), low)
        high = np.where(np.isnan(high), np.asarray(np.inf, high.dtype), high)
    return Box(low, high, np.broadcast_to(exponent, low.shape), np.broadcast_to(nan, low.shape), rows)


def truth(a: Box, covers: frozenset[str] = frozenset(), spares: frozenset[str] = frozenset()) -> Box:
    """Make the box of a condition on the elements of `a`."""
    off, on = np.zeros(a.low.shape, bool), np.ones(a.low.shape, bool)
    return Box(off, on, np.zeros(a.low.shape, np.int64), off, a.rows, covers=covers, spares=spares)


def broadcast(call: Node) -> list[Box]:
    """Bring operands to one shape; the row axis must meet the row axis and nothing else."""
    places = {(box.low.ndim, box.rows) for box in call.boxes if box.rowed}  # the rank, and which axis
    if len(places) > 1:
        raise call.refuse("operands whose row axes do not meet: the result would mix rows")
    rank, rows = next(iter(places), (0, None))
    for box in call.boxes:
        if rows is not None and not box.rowed and not leaves_rows(box.low.shape, rank, rows):
            raise call.refuse(f"the constant {box.name} has a length along the row axis")
    shape = np.broadcast_shapes(*(box.low.shape for box in call.boxes))
    return [spread(box, shape, rows) for box in call.boxes]


def leaves_rows(shape: tuple[int, ...], rank: int, rows: int) -> bool:
    """Whether a constant of `shape` broadcasts to a tensor of `rank` axes without touching its axis `rows`."""
    place = rows - (rank - len(shape))  # shapes meet at their last axes
    return len(shape) <= rank and (place < 0 or shape[place] == 1)


def spread(box: Box, shape: tuple[int, ...], rows: int | None) -> Box:
    """Broadcast a box; a condition's facts hold for tensors of its own shape only."""
    wide = replace(box.moved(lambda part: np.broadcast_to(part, shape)), rows=rows)
    return replace(wide, covers=box.covers, spares=box.spares) if box.low.shape == shape else wide


def holds_zero(box: Box) -> np.ndarray:
    """Return where zero lies in the box."""
    return np.asarray((box.low <= 0) & (box.high >= 0))


def holds_infinity(box: Box) -> np.ndarray:
    """Return where an infinity lies in the box."""
    return np.asarray(np.isinf(box.low) | np.isinf(box.high))


def is_power(box: Box) -> np.ndarray:
    """Return where the box holds one value and that is a power of two, up to its sign."""
    mantissa = np.frexp(np.abs(box.low))[0]
    single: np.ndarray = (box.low == box.high) & (mantissa == 0.5) & (grid_of(box.low) == box.exponent)
    return single


RULES: dict[str, Rule] = {
    "Add": add,
    "Sub": sub,
    "Mul": mul,
    "Div": div,
    "Sqrt": sqrt,
    "Neg": neg,
    "Abs": absolute,
    "Floor": floor,
    "Round": nearest,
    "Clip": clip,
    "Min": extreme("Min"),
    "Max": extreme("Max"),
    "Where": where,
    "IsNaN": is_nan,
    "Not": negated,
    "And": both,
    "Or": either,
    **dict.fromkeys(("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"), compare),
}
