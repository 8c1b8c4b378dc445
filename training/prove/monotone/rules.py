"""How each operator passes trends on. Each rule is for the rounded operation, not for the one that is meant.

Rounding to nearest never exchanges two numbers, so a rounded sum, product, quotient or root is monotone wherever the exact one is.
A product of matrices is a tree of such sums and products, fused or not, in an order that depends on shapes only. It never
falls where every term never falls.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from batchproof.training.prove.box import ProofError
from batchproof.training.prove.monotone.trend import Trend, trend, unbounded

Rule = Callable[[str, Sequence[Trend], Mapping[str, Any]], Trend]  # name of the node, operands, attributes


def add(_: str, operands: Sequence[Trend], __: Mapping[str, Any]) -> Trend:
    """Sum: it goes where both operands go."""
    a, b = operands
    return trend(a.low + b.low, a.high + b.high, a.up & b.up, a.down & b.down)


def sub(_: str, operands: Sequence[Trend], __: Mapping[str, Any]) -> Trend:
    """Difference: what is taken off counts the other way."""
    a, b = operands
    return trend(a.low - b.high, a.high - b.low, a.up & b.down, a.down & b.up)


def mul(_: str, operands: Sequence[Trend], __: Mapping[str, Any]) -> Trend:
    """Product: each factor counts by the sign of the other."""
    a, b = operands
    ends = np.stack(np.broadcast_arrays(a.low * b.low, a.low * b.high, a.high * b.low, a.high * b.high))
    (a_up, a_down), (b_up, b_down) = by_sign(a, b.low, b.high), by_sign(b, a.low, a.high)
    return trend(ends.min(axis=0), ends.max(axis=0), a_up & b_up, a_down & b_down)


def div(_: str, operands: Sequence[Trend], __: Mapping[str, Any]) -> Trend:
    """Quotient: a positive divisor counts the other way, by the sign of the dividend; of another divisor nothing is known."""
    a, b = operands
    is_known = (b.low > 0.0) | (a.still & b.still)
    ends = np.stack(np.broadcast_arrays(a.low / b.low, a.low / b.high, a.high / b.low, a.high / b.high))
    low, high = (
        np.where(b.low > 0.0, end, limit) for end, limit in ((ends.min(axis=0), -np.inf), (ends.max(axis=0), np.inf))
    )
    b_down, b_up = by_sign(b, a.low, a.high)
    return trend(low, high, a.up & b_up & is_known, a.down & b_down & is_known)


def by_sign(a: Trend, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where a times a number between low and high never falls, and where it never rises."""
    positive, negative = low >= 0.0, high <= 0.0
    return a.still | (positive & a.up) | (negative & a.down), a.still | (positive & a.down) | (negative & a.up)


def monotone(function: Callable[[np.ndarray], np.ndarray]) -> Rule:
    """Return the rule of a function of one operand that never falls."""

    def rule(_: str, operands: Sequence[Trend], __: Mapping[str, Any]) -> Trend:
        (a,) = operands
        return trend(function(a.low), function(a.high), a.up, a.down)

    return rule


def absolute(_: str, operands: Sequence[Trend], __: Mapping[str, Any]) -> Trend:
    """Absolute value: it is monotone on either side of 0."""
    (a,) = operands
    positive, negative = a.low >= 0.0, a.high <= 0.0
    low = np.where(positive, a.low, np.where(negative, -a.high, 0.0))
    up = a.still | (positive & a.up) | (negative & a.down)
    down = a.still | (positive & a.down) | (negative & a.up)
    return trend(low, np.maximum(-a.low, a.high), up, down)


def clip(_: str, operands: Sequence[Trend], __: Mapping[str, Any]) -> Trend:
    """Clip to limits: it is a maximum and a minimum."""
    a, *limits = operands
    ends = [np.asarray(part) for part in (a.low, a.high)]
    up, down = a.up, a.down
    for limit, choose in zip(limits, (np.maximum, np.minimum), strict=False):
        ends = [choose(ends[0], limit.low), choose(ends[1], limit.high)]
        up, down = up & limit.up, down & limit.down
    return trend(ends[0], ends[1], up, down)


def extreme(choose: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Rule:
    """Return the rule of the maximum or minimum of two operands."""

    def rule(_: str, operands: Sequence[Trend], __: Mapping[str, Any]) -> Trend:
        a, b = operands
        return trend(choose(a.low, b.low), choose(a.high, b.high), a.up & b.up, a.down & b.down)

    return rule


def where(_: str, operands: Sequence[Trend], __: Mapping[str, Any]) -> Trend:
    """Choice by a condition that stays: where it is not stored, both choices have to go the same way."""
    condition, a, b = operands
    first, second = condition.low > 0.0, condition.high < 1.0
    either = condition.still

    def chosen(x: np.ndarray, y: np.ndarray, both: np.ndarray) -> np.ndarray:
        return np.where(first, x, np.where(second, y, both))

    low = chosen(a.low, b.low, np.minimum(a.low, b.low))
    high = chosen(a.high, b.high, np.maximum(a.high, b.high))
    return trend(low, high, chosen(a.up, b.up, a.up & b.up) & either, chosen(a.down, b.down, a.down & b.down) & either)


def is_nan(_: str, operands: Sequence[Trend], __: Mapping[str, Any]) -> Trend:
    """Whether an input is missing: that is not among what moves."""
    (a,) = operands
    still = np.ones(a.up.shape, bool)
    return trend(np.zeros(still.shape), np.ones(still.shape), still, still)


def equal(_: str, operands: Sequence[Trend], __: Mapping[str, Any]) -> Trend:
    """Comparison: it stays where both operands do."""
    a, b = operands
    still = a.still & b.still
    return trend(np.zeros(still.shape), np.ones(still.shape), still, still)


def greater(_: str, operands: Sequence[Trend], __: Mapping[str, Any]) -> Trend:
    """Comparison: false is below true."""
    a, b = operands
    up = a.up & b.down
    return trend(np.zeros(up.shape), np.ones(up.shape), up, a.down & b.up)


def cast(node: str, operands: Sequence[Trend], attributes: Mapping[str, Any]) -> Trend:
    """Conversion to another type of numbers, which rounds."""
    (a,) = operands
    kinds = {TensorProto.FLOAT: np.float32, TensorProto.DOUBLE: np.float64}
    if attributes["to"] not in kinds:
        raise ProofError(node, "only a Cast to float32 or float64 has a rule")
    low, high = (end.astype(kinds[attributes["to"]]).astype(np.float64) for end in (a.low, a.high))
    return trend(low, high, a.up, a.down)


def gemm(node: str, operands: Sequence[Trend], attributes: Mapping[str, Any]) -> Trend:
    """Product of two matrices, plus a third."""
    if any(attributes.get(name, 1.0) != 1.0 for name in ("alpha", "beta")):
        raise ProofError(node, "only a Gemm with alpha and beta 1 has a rule")
    a = operands[0].moved(np.transpose) if attributes.get("transA") else operands[0]
    b = operands[1].moved(np.transpose) if attributes.get("transB") else operands[1]
    product = matmul(node, (a, b), {})
    return add(node, (product, operands[2]), {}) if len(operands) > 2 else product


def matmul(node: str, operands: Sequence[Trend], _: Mapping[str, Any]) -> Trend:
    """Product of matrices, one of which is stored: a term counts by the sign of its weight."""
    a, b = operands
    if (a.stored is None) == (b.stored is None):
        raise ProofError(node, "one of the two matrices must be stored, and the other computed")
    counts = []
    for wanted, opposite in (("up", "down"), ("down", "up")):
        if a.stored is not None:
            against = _times(a.stored > 0, ~getattr(b, wanted)) + _times(a.stored < 0, ~getattr(b, opposite))
        else:
            assert b.stored is not None
            against = _times(~getattr(a, wanted), b.stored > 0) + _times(~getattr(a, opposite), b.stored < 0)
        counts.append(against == 0.0)  # [.., out]: no term goes against it
    return unbounded(*counts)


def _times(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    counts: np.ndarray = np.matmul(a.astype(np.float32), b.astype(np.float32))
    return counts


def gather(node: str, operands: Sequence[Trend], attributes: Mapping[str, Any]) -> Trend:
    """Elements by stored places, or by places that stay."""
    data, places = operands
    axis = attributes.get("axis", 0)
    stored = places.stored
    if stored is not None:
        return data.moved(lambda part: np.take(part, stored, axis=axis))
    if data.stored is None:
        raise ProofError(node, "looks places up that are computed, in a tensor that is computed")
    ends = [
        np.take(end(data.stored, axis=axis, keepdims=True), np.zeros(places.up.shape, np.int64), axis=axis)
        for end in (np.min, np.max)
    ]
    still = np.broadcast_to(
        places.still.reshape(places.up.shape + (1,) * (ends[0].ndim - places.up.ndim)), ends[0].shape
    )
    return trend(ends[0].astype(np.float64), ends[1].astype(np.float64), still, still)


def concat(_: str, operands: Sequence[Trend], attributes: Mapping[str, Any]) -> Trend:
    """Tensors side by side."""
    names = ("low", "high", "up", "down")
    return Trend(
        *(np.concatenate([getattr(each, name) for each in operands], axis=attributes["axis"]) for name in names)
    )


def reshape(node: str, operands: Sequence[Trend], _: Mapping[str, Any]) -> Trend:
    """Put the same elements in another shape."""
    data, shape = operands
    if shape.stored is None or (shape.stored == 0).any():
        raise ProofError(node, "only a Reshape to a stored shape without 0 has a rule")
    wanted = tuple(shape.stored.tolist())
    return data.moved(lambda part: part.reshape(wanted))


def unsqueeze(node: str, operands: Sequence[Trend], _: Mapping[str, Any]) -> Trend:
    """Add axes of length 1."""
    data, axes = operands
    if axes.stored is None:
        raise ProofError(node, "only an Unsqueeze of stored axes has a rule")
    wanted = tuple(axes.stored.tolist())
    return data.moved(lambda part: np.expand_dims(part, wanted))


def reduce_max(_: str, operands: Sequence[Trend], attributes: Mapping[str, Any]) -> Trend:
    """Greatest element along axes."""
    (a,) = operands
    axes, kept = tuple(attributes["axes"]), bool(attributes.get("keepdims", 1))
    low, high = a.low.max(axis=axes, keepdims=kept), a.high.max(axis=axes, keepdims=kept)
    return trend(low, high, np.all(a.up, axis=axes, keepdims=kept), np.all(a.down, axis=axes, keepdims=kept))


RULES: dict[str, Rule] = {
    "Add": add,
    "Sub": sub,
    "Mul": mul,
    "Div": div,
    "Abs": absolute,
    "Sqrt": monotone(np.sqrt),
    "Floor": monotone(np.floor),
    "Round": monotone(np.rint),
    "Relu": monotone(lambda end: np.maximum(end, 0.0)),
    "Identity": lambda _, operands, __: operands[0],
    "Clip": clip,
    "Min": extreme(np.minimum),
    "Max": extreme(np.maximum),
    "Or": extreme(np.maximum),
    "Where": where,
    "IsNaN": is_nan,
    "Equal": equal,
    "Greater": greater,
    "Cast": cast,
    "Gemm": gemm,
    "MatMul": matmul,
    "Gather": gather,
    "Concat": concat,
    "Reshape": reshape,
    "Unsqueeze": unsqueeze,
    "ReduceMax": reduce_max,
}
