"""Class 1, choices and conditions: each result is one of the operands, or a truth about them; nothing is rounded."""

import numpy as np

from batchproof.training.prove.box import Box
from batchproof.training.prove.limits import shown
from batchproof.training.prove.node import Node, Rule
from batchproof.training.prove.operators.broadcast import broadcast, numeric, truth


def clip(call: Node) -> Box:
    """Limit a tensor to an interval.

    Sound: the limits are constant numbers, the lower one not above the upper one (engines differ in which of them
    wins); no NaN arrives, of which engines make a limit or a NaN; and no infinity reaches a side without a limit, be it
    the value or the other limit: engines put the greatest finite number there.
    """
    result = extreme("Max")(call.on(call.boxes[0]))
    limits = [box if box.name else None for box in call.boxes[1:]]
    low, high = (*limits, None, None)[:2]
    for limit in (low, high):
        if limit is not None and (not limit.constant or limit.low.ndim):
            raise call.refuse("the limits of a Clip must be constant numbers")
    if low is not None and high is not None and low.low > high.low:
        raise call.refuse(f"a Clip from {low.low} to {high.low}: engines differ in which limit wins")
    result = result if low is None else extreme("Max")(call.on(result, low))
    result = result if high is None else extreme("Min")(call.on(result, high))
    for limit, end in ((low, result.low), (high, result.high)):
        if limit is None and np.isinf(end).any():
            raise call.refuse("an infinity may reach the side without a limit: some engines make it finite")
    return result


def extreme(op: str) -> Rule:
    """Return the rule of Min or Max over tensors.

    Sound: the result is one of the operands, up to the sign of zero; NaN, of which engines make different things,
    may not arrive.
    """
    function = np.minimum if op == "Min" else np.maximum

    def rule(call: Node) -> Box:
        operands = broadcast(call)
        for box in operands:
            if box.nan.any():
                raise call.refuse(f"{shown(box.name) or 'an input'} may be NaN: replace NaN with IsNaN and Where first")
        low, high, exponent = operands[0].low, operands[0].high, operands[0].exponent
        for box in operands[1:]:
            low, high = function(low, box.low), function(high, box.high)
            exponent = np.minimum(exponent, box.exponent)
        return numeric(low, high, exponent, operands[0].nan, rows=operands[0].rows)

    return rule


def where(call: Node) -> Box:
    """Choose between two tensors.

    Sound: the result is one of the two, up to the sign of zero; a branch that is never taken where it would be NaN
    brings no NaN, which only a condition computed from this very branch, in this shape, can show.
    """
    condition, a, b = broadcast(call)
    whole_shape = call.boxes[0].low.shape == condition.low.shape
    nan_a = a.nan & (not (whole_shape and call.boxes[1].name in call.boxes[0].spares))
    nan_b = b.nan & (not (whole_shape and call.boxes[2].name in call.boxes[0].covers))
    exponent = np.minimum(a.exponent, b.exponent)
    return numeric(np.minimum(a.low, b.low), np.maximum(a.high, b.high), exponent, nan_a | nan_b, rows=a.rows)


def is_nan(call: Node) -> Box:
    """Whether an element is NaN.

    Sound: whether an element is NaN depends on the row only, though the bits of a NaN are the engine's.
    """
    (a,) = call.boxes
    return truth(a, covers=frozenset([a.name]))


def compare(call: Node) -> Box:
    """Equal, Less and the like: false where an operand is NaN.

    Sound: IEEE-754 and two's complement leave no choice, and the two zeros are equal.
    """
    a, _ = broadcast(call)
    return truth(a, spares=frozenset(box.name for box in call.boxes))


def both(call: Node) -> Box:
    """And of two conditions.

    Sound: it is false wherever either is, so it spares what either spares; it covers what both cover.
    """
    a, b = broadcast(call)
    return truth(a, a.covers & b.covers, a.spares | b.spares)


def either(call: Node) -> Box:
    """Or of two conditions.

    Sound: it is true wherever either is, so it covers what either covers; it spares what both spare.
    """
    a, b = broadcast(call)
    return truth(a, a.covers | b.covers, a.spares & b.spares)


def negated(call: Node) -> Box:
    """Not of a condition.

    Sound: what was true where a tensor is NaN is false there, and the other way round.
    """
    (a,) = call.boxes
    return truth(a, a.spares, a.covers)


RULES: dict[str, Rule] = {
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
