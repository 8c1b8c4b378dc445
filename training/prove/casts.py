"""Class 1, Cast: between float64, float32, integers and booleans, with what each direction must rule out."""

from typing import Any

import numpy as np
from onnx import helper

from batchproof.training.prove.box import Box
from batchproof.training.prove.elementwise import numeric, truth
from batchproof.training.prove.node import Node

FLOAT32_FINEST = -149  # every finite float32 is a multiple of 2^-149


def cast(call: Node) -> Box:
    """Convert the element type."""
    (a,) = call.boxes
    to = np.dtype(helper.tensor_dtype_to_np_dtype(call.attributes["to"]))
    if to.kind == "f":
        return to_float(call, a, to)
    if a.nan.any():
        raise call.refuse(f"NaN may reach the Cast to {to}")
    if to.kind == "b":
        return truth(a)
    return to_integer(call, a, to)


def to_float(call: Node, a: Box, to: np.dtype[Any]) -> Box:
    """Round to the nearest value of a floating type."""
    if to not in (np.dtype(np.float64), np.dtype(np.float32)):
        raise call.refuse(f"Cast to {to}: only float64, float32, integers and booleans are known")
    exponent = a.exponent if to == np.float64 else np.maximum(a.exponent, FLOAT32_FINEST)
    return numeric(a.low.astype(to), a.high.astype(to), exponent, a.nan, rows=a.rows)


def to_integer(call: Node, a: Box, to: np.dtype[Any]) -> Box:
    """Truncate to an integer; outside its range the result would be the processor's own."""
    info = np.iinfo(to)
    low, high = a.low.astype(np.float64), a.high.astype(np.float64)
    if (low < info.min).any() or (high >= float(info.max)).any():
        raise call.refuse(f"values from {low.min():g} to {high.max():g} may not fit {to}")
    zero = np.zeros(a.low.shape, np.int64)
    return numeric(np.trunc(low).astype(to), np.trunc(high).astype(to), zero, a.nan, rows=a.rows)
