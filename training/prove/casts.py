"""Class 1, Cast: between float64, float32, integers and booleans, with what each direction must rule out."""

from collections.abc import Sequence
from typing import Any, SupportsInt, cast as typed

import numpy as np
from onnx import helper

from training.prove.box import Box, ProofError
from training.prove.elementwise import Attributes, numeric, truth

FLOAT32_FINEST = -149  # every finite float32 is a multiple of 2^-149


def cast(node: str, boxes: Sequence[Box], attributes: Attributes) -> Box:
    """Convert the element type."""
    (a,) = boxes
    to = np.dtype(helper.tensor_dtype_to_np_dtype(int(typed(SupportsInt, attributes["to"]))))
    if to.kind == "f":
        return to_float(a, to)
    if a.nan.any():
        raise ProofError(node, f"NaN may reach the Cast to {to}")
    if to.kind == "b":
        return truth(a.low.shape, a.rowed)
    return to_integer(node, a, to)


def to_float(a: Box, to: np.dtype[Any]) -> Box:
    """Round to the nearest value of a floating type."""
    if to not in (np.dtype(np.float64), np.dtype(np.float32)):
        raise ProofError(a.name, f"Cast to {to}: only float64, float32, integers and booleans are known")
    exponent = a.exponent if to == np.float64 else np.maximum(a.exponent, FLOAT32_FINEST)
    return numeric(a.low.astype(to), a.high.astype(to), exponent, a.nan, a.rowed)


def to_integer(node: str, a: Box, to: np.dtype[Any]) -> Box:
    """Truncate to an integer; outside its range the result would be the processor's own."""
    info = np.iinfo(to)
    low, high = a.low.astype(np.float64), a.high.astype(np.float64)
    if (low < info.min).any() or (high >= float(info.max)).any():
        raise ProofError(node, f"values from {low.min():g} to {high.max():g} may not fit {to}")
    zero = np.zeros(a.low.shape, np.int64)
    return numeric(np.trunc(low).astype(to), np.trunc(high).astype(to), zero, a.nan, a.rowed)
