"""Class 1, Cast: between float64, integers and booleans, and to float32; what engines do not agree on is refused."""

from typing import Any

import numpy as np

from batchproof.training.prove.box import Box
from batchproof.training.prove.declared import DTYPES, type_name, type_names
from batchproof.training.prove.node import Node
from batchproof.training.prove.operators.broadcast import numeric, truth, whole

FLOAT32_FINEST = -149  # every finite float32 is a multiple of 2^-149
EXACT_INTEGERS = {"float64": 2**53, "float32": 2**24}  # each type holds all integers up to here


def cast(call: Node) -> Box:
    """Convert the element type.

    Sound: to_float, to_integer and truth say so of each direction; a NaN only ever goes to a float.
    """
    (a,) = call.boxes
    if call.attributes["to"] not in DTYPES:
        raise call.refuse(f"a Cast to {type_name(call.attributes['to'])} is not supported; use {type_names(DTYPES)}")
    to = DTYPES[call.attributes["to"]]
    if to.kind == "f":
        return to_float(call, a, to)
    if a.nan.any():
        raise call.refuse(f"NaN may reach the Cast to {to}")
    if to.kind == "b":
        return truth(a)  # sound: false for both zeros, true for all else, an infinity included
    return to_integer(call, a, to)


def to_float(call: Node, a: Box, to: np.dtype[Any]) -> Box:
    """Round to the nearest value of a floating type.

    Sound: float64 to float32 is one correctly rounded operation; an integer is converted only where the type holds
    it, because engines drop a Cast to a float and back, and with it the rounding of greater ones.
    """
    if a.dtype.kind == "f":
        exponent = a.exponent if to == np.float64 else np.maximum(a.exponent, FLOAT32_FINEST)
        return numeric(a.low.astype(to), a.high.astype(to), exponent, a.nan, rows=a.rows)
    least, most = int(a.low.min()), int(a.high.max())
    if max(-least, most) > EXACT_INTEGERS[to.name]:
        raise call.refuse(f"{to} does not hold all integers from {least} to {most}")
    return numeric(a.low.astype(to), a.high.astype(to), np.zeros(a.low.shape, np.int64), a.nan, rows=a.rows)


def to_integer(call: Node, a: Box, to: np.dtype[Any]) -> Box:
    """Truncate to an integer.

    Sound: truncation is exact and monotone; what may lie outside the type, where the result is the processor's own, is
    refused.
    """
    low, high = np.trunc(a.low) if a.dtype.kind == "f" else a.low, np.trunc(a.high) if a.dtype.kind == "f" else a.high
    if a.dtype.kind == "f" and not a.finite:
        raise call.refuse(f"values from {low.min():g} to {high.max():g} may not fit {to}")
    least, most = (np.asarray(np.frompyfunc(int, 1, 1)(end), object) for end in (low, high))
    if least.min() < np.iinfo(to).min or most.max() > np.iinfo(to).max:
        raise call.refuse(f"values from {low.min():g} to {high.max():g} may not fit {to}")
    like = Box(np.zeros(low.shape, to), np.zeros(low.shape, to), a.exponent, a.nan, a.rows)
    return whole(call, least, most, like)
