"""Class 1: one correctly rounded IEEE-754 operation an element, the same bits wherever it is computed.

Rounding to nearest is monotone, so evaluating the ends of an interval in the tensor's own type gives sound bounds.
Rounding a multiple of 2^e gives a multiple of 2^e (or of a coarser power), so grids pass through rounded operations.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from training.prove.box import FINEST, ZERO_GRID, Box, ProofError, grid_of

Attributes = dict[str, object]
Rule = Callable[[str, Sequence[Box], Attributes], Box]


def add(node: str, boxes: Sequence[Box], attributes: Attributes) -> Box:
    """Sum of two tensors."""
    a, b = broadcast(node, boxes)
    low, high = a.low + b.low, a.high + b.high
    clash = ((a.low == -np.inf) & (b.high == np.inf)) | ((a.high == np.inf) & (b.low == -np.inf))
    return numeric(low, high, np.minimum(a.exponent, b.exponent), a.nan | b.nan | clash, a.rowed)


def sub(node: str, boxes: Sequence[Box], attributes: Attributes) -> Box:
    """Difference of two tensors; x - Round(x) is at most a half."""
    difference = add(node, [boxes[0], neg(node, boxes[1:], {})], {})
    if not boxes[1].rounds or boxes[1].rounds != boxes[0].name:
        return difference
    half = np.asarray(0.5, difference.dtype)
    return replace(difference, low=np.maximum(difference.low, -half), high=np.minimum(difference.high, half))


def mul(node: str, boxes: Sequence[Box], attributes: Attributes) -> Box:
    """Product of two tensors; of a tensor with itself, its square."""
    a, b = broadcast(node, boxes)
    corners = np.stack([a.low * b.low, a.low * b.high, a.high * b.low, a.high * b.high])
    corners = np.where(np.isnan(corners), np.zeros((), a.dtype), corners)  # 0 * inf: the product may be 0 or NaN
    clash = (holds_zero(a) & holds_infinity(b)) | (holds_zero(b) & holds_infinity(a))
    low = corners.min(axis=0)
    if boxes[0].name == boxes[1].name:
        low, clash = np.maximum(low, np.zeros((), a.dtype)), np.zeros_like(clash)
    exponent = np.clip(a.exponent + b.exponent, FINEST, ZERO_GRID)
    return numeric(low, corners.max(axis=0), exponent, a.nan | b.nan | clash, a.rowed)


def div(node: str, boxes: Sequence[Box], attributes: Attributes) -> Box:
    """Quotient of two tensors; the divisor must stay away from zero, whose sign is not determined."""
    a, b = broadcast(node, boxes)
    if holds_zero(b).any():
        raise ProofError(node, "the divisor may be zero, and the sign of a zero depends on the engine")
    if boxes[0].constant and not boxes[1].constant:
        raise ProofError(
            node, "a constant over a tensor: engines merge it with a product that follows, and round differently"
        )
    corners = np.stack([a.low / b.low, a.low / b.high, a.high / b.low, a.high / b.high])
    corners = np.where(np.isnan(corners), np.zeros((), a.dtype), corners)
    clash = holds_infinity(a) & holds_infinity(b)
    exponent = np.where(is_power(b), np.clip(a.exponent - b.exponent, FINEST, ZERO_GRID), FINEST)
    return numeric(corners.min(axis=0), corners.max(axis=0), exponent, a.nan | b.nan | clash, a.rowed)


def sqrt(node: str, boxes: Sequence[Box], attributes: Attributes) -> Box:
    """Square root; negative values would be NaN."""
    (a,) = boxes
    if (a.low < 0).any():
        raise ProofError(node, f"the root of a value as low as {a.low.min():g}")
    return numeric(np.sqrt(a.low), np.sqrt(a.high), np.full_like(a.exponent, FINEST), a.nan, a.rowed)


def neg(node: str, boxes: Sequence[Box], attributes: Attributes) -> Box:
    """Negation."""
    (a,) = boxes
    return numeric(-a.high, -a.low, a.exponent, a.nan, a.rowed)


def absolute(node: str, boxes: Sequence[Box], attributes: Attributes) -> Box:
    """Absolute value."""
    (a,) = boxes
    ends = np.stack([np.abs(a.low), np.abs(a.high)])
    low = np.where(holds_zero(a), np.zeros((), a.dtype), ends.min(axis=0))
    return numeric(low, ends.max(axis=0), a.exponent, a.nan, a.rowed)


def nearest(node: str, boxes: Sequence[Box], attributes: Attributes) -> Box:
    """Nearest integer, half to even."""
    (a,) = boxes
    box = numeric(np.rint(a.low), np.rint(a.high), np.maximum(a.exponent, 0), a.nan, a.rowed)
    return replace(box, rounds=a.name)


def floor(node: str, boxes: Sequence[Box], attributes: Attributes) -> Box:
    """Greatest integer that is not above."""
    (a,) = boxes
    return numeric(np.floor(a.low), np.floor(a.high), np.maximum(a.exponent, 0), a.nan, a.rowed)


def clip(node: str, boxes: Sequence[Box], attributes: Attributes) -> Box:
    """Limit a tensor to an interval; passes NaN on, so none may arrive."""
    a, *limits = boxes
    result = a
    for limit, pick in zip(limits, ("Max", "Min"), strict=False):
        if limit.name:
            if not limit.constant or limit.low.size != 1:
                raise ProofError(node, "the limits of a Clip must be constant numbers")
            result = extreme(pick)(node, [result, limit], {})
    return extreme("Max")(node, [result], {})


def extreme(op: str) -> Rule:
    """Min or Max over tensors; engines differ in what they make of NaN, so none may arrive."""
    function = np.minimum if op == "Min" else np.maximum

    def rule(node: str, boxes: Sequence[Box], attributes: Attributes) -> Box:
        operands = broadcast(node, boxes)
        result = operands[0]
        for box in operands:
            if box.nan.any():
                raise ProofError(node, f"NaN may arrive in {box.name or 'an input'}: guard it by IsNaN and Where first")
            low, high = function(result.low, box.low), function(result.high, box.high)
            result = numeric(low, high, np.minimum(result.exponent, box.exponent), result.nan, result.rowed)
        return result

    return rule


def where(node: str, boxes: Sequence[Box], attributes: Attributes) -> Box:
    """Choose between two tensors; a branch that is not taken where it would be NaN brings no NaN."""
    condition, a, b = broadcast(node, boxes)
    whole_shape = boxes[0].low.shape == condition.low.shape
    nan_a = a.nan & (not (whole_shape and boxes[1].name in boxes[0].spares))
    nan_b = b.nan & (not (whole_shape and boxes[2].name in boxes[0].covers))
    exponent = np.minimum(a.exponent, b.exponent)
    return numeric(np.minimum(a.low, b.low), np.maximum(a.high, b.high), exponent, nan_a | nan_b, a.rowed)


def is_nan(node: str, boxes: Sequence[Box], attributes: Attributes) -> Box:
    """True where the tensor is NaN."""
    (a,) = boxes
    return truth(a.low.shape, a.rowed, covers=frozenset([a.name]))


def compare(node: str, boxes: Sequence[Box], attributes: Attributes) -> Box:
    """Equal, Less and the like: false where an operand is NaN."""
    a, _ = broadcast(node, boxes)
    return truth(a.low.shape, a.rowed, spares=frozenset(box.name for box in boxes))


def both(node: str, boxes: Sequence[Box], attributes: Attributes) -> Box:
    """And of two conditions."""
    a, b = broadcast(node, boxes)
    return truth(a.low.shape, a.rowed, a.covers & b.covers, a.spares | b.spares)


def either(node: str, boxes: Sequence[Box], attributes: Attributes) -> Box:
    """Or of two conditions."""
    a, b = broadcast(node, boxes)
    return truth(a.low.shape, a.rowed, a.covers | b.covers, a.spares & b.spares)


def negated(node: str, boxes: Sequence[Box], attributes: Attributes) -> Box:
    """Not of a condition."""
    (a,) = boxes
    return truth(a.low.shape, a.rowed, a.spares, a.covers)


def numeric(low: np.ndarray, high: np.ndarray, exponent: np.ndarray, nan: np.ndarray, rowed: bool) -> Box:
    """Make a box, with unknown ends (inf - inf) widened and integers on the unit grid."""
    if low.dtype.kind == "f":
        low = np.where(np.isnan(low), np.asarray(-np.inf, low.dtype), low)
        high = np.where(np.isnan(high), np.asarray(np.inf, high.dtype), high)
    return Box(low, high, np.broadcast_to(exponent, low.shape), np.broadcast_to(nan, low.shape), rowed)


def truth(
    shape: tuple[int, ...], rowed: bool, covers: frozenset[str] = frozenset(), spares: frozenset[str] = frozenset()
) -> Box:
    """Make the box of a condition."""
    off, on = np.zeros(shape, bool), np.ones(shape, bool)
    return Box(off, on, np.zeros(shape, np.int64), off, rowed, covers=covers, spares=spares)


def broadcast(node: str, boxes: Sequence[Box]) -> list[Box]:
    """Bring operands to one shape; the row axis must meet the row axis and nothing else."""
    rowed = any(box.rowed for box in boxes)
    ranks = {box.low.ndim for box in boxes if box.rowed}
    if len(ranks) > 1:
        raise ProofError(node, "operands whose row axes do not meet: the result would mix rows")
    for box in boxes:
        beyond = rowed and not box.rowed and box.low.ndim >= max(ranks)
        if beyond and (box.low.ndim > max(ranks) or box.low.shape[0] != 1):
            raise ProofError(node, f"the constant {box.name} has a length along the row axis")
    shape = np.broadcast_shapes(*(box.low.shape for box in boxes))
    return [
        Box(
            *(np.broadcast_to(part, shape) for part in (box.low, box.high, box.exponent, box.nan)),
            rowed,
            box.name,
            box.covers if box.low.shape == shape else frozenset(),
            box.spares if box.low.shape == shape else frozenset(),
        )
        for box in boxes
    ]


def holds_zero(box: Box) -> np.ndarray:
    """Return where zero lies in the box."""
    return np.asarray((box.low <= 0) & (box.high >= 0))


def holds_infinity(box: Box) -> np.ndarray:
    """Return where an infinity lies in the box."""
    return np.isinf(box.low) | np.isinf(box.high)


def is_power(box: Box) -> np.ndarray:
    """Return where the box holds one value and that is a power of two, up to its sign."""
    mantissa = np.frexp(np.abs(box.low))[0]
    return np.asarray((box.low == box.high) & (mantissa == 0.5) & (grid_of(box.low) == box.exponent))


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
