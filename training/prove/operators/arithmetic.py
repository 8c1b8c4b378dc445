"""Class 1, arithmetic: one correctly rounded IEEE-754 operation an element, or one integer operation that cannot wrap.

Rounding to nearest is monotone, so evaluating the ends of an interval in the tensor's own type gives sound bounds.
Rounding a multiple of 2^e (e at least -1074) gives a multiple of 2^e, so grids pass through rounded operations. The
bits of such an operation depend on its operands only, the sign of a zero aside, which no rule reads.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from batchproof.training.prove.box import FINEST, ZERO_GRID, Box, grid_of
from batchproof.training.prove.limits import shown
from batchproof.training.prove.node import Node, Rule
from batchproof.training.prove.operators.broadcast import broadcast, exact, holds_infinity, holds_zero, numeric, whole


def add(call: Node) -> Box:
    """Sum of two tensors.

    Sound: a float sum is rounded once, a sum of opposite infinities is noted as NaN, an integer sum cannot wrap.
    """
    need_finished(call)
    need_kept(call, 0.0, call.boxes)
    a, b = broadcast(call)
    if a.dtype.kind == "i":
        return whole(call, exact(a.low) + exact(b.low), exact(a.high) + exact(b.high), a)
    clash = ((a.low == -np.inf) & (b.high == np.inf)) | ((a.high == np.inf) & (b.low == -np.inf))
    exponent = np.minimum(a.exponent, b.exponent)
    return numeric(a.low + b.low, a.high + b.high, exponent, a.nan | b.nan | clash, rows=a.rows)


def sub(call: Node) -> Box:
    """Difference of two tensors; x - Round(x) is at most a half.

    Sound for the same reason as a sum. The half holds because Round goes to the nearest integer, and x is in the range
    where halves are floats, or is an integer itself.
    """
    need_finished(call)
    need_kept(call, 0.0, call.boxes[1:])
    a, b = broadcast(call)
    if a.dtype.kind == "i":
        return whole(call, exact(a.low) - exact(b.high), exact(a.high) - exact(b.low), a)
    clash = ((a.low == -np.inf) & (b.low == -np.inf)) | ((a.high == np.inf) & (b.high == np.inf))
    low, high = a.low - b.high, a.high - b.low
    exponent, nan = np.minimum(a.exponent, b.exponent), a.nan | b.nan | clash
    if call.boxes[1].rounds and call.boxes[1].rounds == call.boxes[0].name:
        half = np.asarray(0.5, low.dtype)
        low, high = (
            np.maximum(np.where(np.isnan(low), -half, low), -half),
            np.minimum(np.where(np.isnan(high), half, high), half),
        )
    return numeric(low, high, exponent, nan, rows=a.rows)


def mul(call: Node) -> Box:
    """Product of two tensors; of a tensor with itself, its square.

    Sound: the extremes of a product are at the ends of its factors, 0 times infinity is noted as NaN, an integer
    product cannot wrap.
    """
    need_finished(call)
    need_kept(call, 1.0, call.boxes)
    a, b = broadcast(call)
    square = call.boxes[0].name == call.boxes[1].name
    if a.dtype.kind == "i":
        products = np.stack([exact(x) * exact(y) for x in (a.low, a.high) for y in (b.low, b.high)])
        least = np.maximum(products.min(axis=0), 0) if square else products.min(axis=0)
        return whole(call, least, products.max(axis=0), a)
    corners = np.stack([a.low * b.low, a.low * b.high, a.high * b.low, a.high * b.high])
    corners = np.where(np.isnan(corners), np.zeros((), a.dtype), corners)  # 0 * inf: the product may be 0 or NaN
    clash = (holds_zero(a) & holds_infinity(b)) | (holds_zero(b) & holds_infinity(a))
    low = corners.min(axis=0)
    if square:
        low, clash = np.maximum(low, np.zeros((), a.dtype)), np.zeros_like(clash)
    exponent = np.clip(a.exponent + b.exponent, FINEST, ZERO_GRID)
    return numeric(low, corners.max(axis=0), exponent, a.nan | b.nan | clash, rows=a.rows)


def div(call: Node) -> Box:
    """Quotient of two float64 tensors, the first one of rows.

    Sound: the divisor keeps away from zero, whose sign is not determined, so the extremes lie at the ends; infinity
    over infinity is noted as NaN. Integers are refused by form: engines differ in how they round, and the least
    integer over -1 or an integer over 0 ends the process.
    """
    need_finished(call)
    need_kept(call, 1.0, call.boxes[1:])
    a, b = broadcast(call)
    if holds_zero(b).any():
        raise call.refuse("the divisor may be zero, and the sign of a zero depends on the engine")
    if not call.boxes[0].rowed:
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
        if "MatMul" in box.makers:
            raise call.refuse(f"{shown(box.name)} is a MatMul: engines merge a following sum or factor into it")


def need_kept(call: Node, neutral: float, boxes: Sequence[Box]) -> None:
    """Refuse a single constant that is neutral once rounded to float32, but not before.

    Engines drop an operation with a neutral constant, and look at it in float32: x · (1 + 2^-52) becomes x.
    """
    for box in boxes:
        if box.rowed or box.low.size > 1 or box.dtype.kind != "f":
            continue
        low, high = float(box.low.item()), float(box.high.item())
        if np.float32(low) <= neutral <= np.float32(high) and not low == high == neutral:
            raise call.refuse(
                f"{shown(box.name)} is {neutral:g} in float32, but not in float64: engines drop the operation"
            )


def sqrt(call: Node) -> Box:
    """Square root.

    Sound: IEEE-754 rounds it correctly, it is monotone, and negative values, whose root is NaN, are refused.
    """
    (a,) = call.boxes
    if (a.low < 0).any():
        raise call.refuse(f"the square root of a value that may be as low as {a.low.min():g}")
    return numeric(np.sqrt(a.low), np.sqrt(a.high), np.full_like(a.exponent, FINEST), a.nan, rows=a.rows)


def neg(call: Node) -> Box:
    """Negation.

    Sound: it is exact for floats, and for integers but the least one, which is refused.
    """
    (a,) = call.boxes
    if a.dtype.kind == "i":
        return whole(call, -exact(a.high), -exact(a.low), a)
    return numeric(-a.high, -a.low, a.exponent, a.nan, rows=a.rows)


def absolute(call: Node) -> Box:
    """Absolute value.

    Sound: it is exact for floats, and for integers but the least one, which is refused.
    """
    (a,) = call.boxes
    integers = a.dtype.kind == "i"
    ends = np.stack([np.abs(exact(end) if integers else end) for end in (a.low, a.high)])
    low = np.where(holds_zero(a), np.zeros((), a.dtype), ends.min(axis=0))
    if integers:
        return whole(call, low, ends.max(axis=0), a)
    return numeric(low, ends.max(axis=0), a.exponent, a.nan, rows=a.rows)


def nearest(call: Node) -> Box:
    """Nearest integer, half to even.

    Sound: the result is exact and monotone; an element that may be NaN stays one that may be NaN.
    """
    (a,) = call.boxes
    box = numeric(np.rint(a.low), np.rint(a.high), np.maximum(a.exponent, 0), a.nan, rows=a.rows)
    return replace(box, rounds=a.name)


def floor(call: Node) -> Box:
    """Greatest integer that is not above.

    Sound: the result is exact and monotone; an element that may be NaN stays one that may be NaN.
    """
    (a,) = call.boxes
    return numeric(np.floor(a.low), np.floor(a.high), np.maximum(a.exponent, 0), a.nan, rows=a.rows)


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
}
