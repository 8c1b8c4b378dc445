"""Class 3: sums that are exact in any order, because every partial sum is a whole number of units below 2^53.

Let each term be an integer multiple of one unit, and the sum of the terms' greatest magnitudes be at most 2^53 units.
Then every sum of any subset of the terms, in any order, is a float64 number; each addition (fused or not) is exact,
and blocking, threads, vector width and split-K cannot change the result. Strassen-like products form other sums and
are ruled out by nothing in the file: no engine in use computes small dense products that way.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from training.prove.box import ZERO_GRID, Box, power
from training.prove.call import Call
from training.prove.movement import keep_rows, normal

EXACT = 2.0**53  # units: float64 holds every integer up to here
SUM_SLACK = 2.0**-50  # relative, a term: covers the rounding of the bound's own float64 sum


@dataclass(frozen=True)
class Obligation:
    """What a sum had to meet, and how well it does."""

    node: str
    op: str
    terms: int  # longest sum, bias included
    outputs: int
    unit_exponents: tuple[int, int]  # coarsest to finest unit over the outputs: 2^exponent
    bits: float  # log2 of the greatest bound in units; at most 53
    input_range: tuple[float, float]
    input_grid: int  # exponent of the inputs' finest grid

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "node": self.node,
            "operator": self.op,
            "terms": self.terms,
            "outputs": self.outputs,
            "unit": [f"2^{exponent}" for exponent in self.unit_exponents],
            "bound_bits": round(self.bits, 3),
            "margin_bits": round(53 - self.bits, 3),
            "input_range": list(self.input_range),
            "input_grid": f"2^{self.input_grid}",
        }


def gemm(call: Call) -> tuple[Box, Obligation]:
    """Affine map by a constant matrix: x [rows, in] -> [rows, out]."""
    a, weight, bias = checked_operands(call)
    w, grid = weight.low, weight.exponent  # [in, out]
    if call.attributes.get("transB", 0):
        w, grid = w.T, grid.T
    units = np.minimum((a.exponent.T + grid).min(axis=0), bias.exponent.reshape(-1))  # [out]
    reach = (a.magnitude @ np.abs(w))[0] + bias.magnitude.reshape(-1)  # [out]
    bits = check_bound(call, reach, units, len(w) + 1)
    ends = np.stack([a.low.T * w, a.high.T * w])  # [2, in, out]
    low = ends.min(axis=0).sum(axis=0) + bias.low.reshape(-1)
    high = ends.max(axis=0).sum(axis=0) + bias.low.reshape(-1)
    rows = (1, len(units))
    box = Box(low.reshape(rows), high.reshape(rows), units.reshape(rows), np.zeros(rows, bool), rowed=True)
    return box, obligation(call, "Gemm", a, units, len(w) + 1, bits)


def checked_operands(call: Call) -> tuple[Box, Box, Box]:
    """Refuse a Gemm that is not x W + b with constant, finite W and b and finite x."""
    if call.attributes.get("alpha", 1.0) != 1.0 or call.attributes.get("beta", 1.0) != 1.0:
        raise call.refuse(
            "alpha and beta must be 1: another factor is rounded before or after the sum, as engines like"
        )
    if call.attributes.get("transA", 0):
        raise call.refuse("the first operand is transposed: the product would mix rows")
    if len(call.boxes) != 3 or not call.boxes[2].name:
        raise call.refuse("no bias: engines merge a following Add into the product")
    a, weight, bias = call.boxes
    for box in (weight, bias):
        if not box.constant or not box.finite:
            raise call.refuse(f"{box.name} must be constant and finite")
    need_exact_input(call, a)
    if weight.dtype != np.float64 or bias.dtype != np.float64:
        raise call.refuse("weights and bias must be float64")
    if bias.low.ndim > 1 and bias.low.shape[0] != 1:
        raise call.refuse("the bias has a length along the row axis")
    return a, weight, bias


def reduce_sum(call: Call) -> tuple[Box, Obligation]:
    """Sum along constant axes that are not the rows."""
    a, axes = call.boxes
    need_exact_input(call, a)
    if not axes.constant or not axes.low.size:
        raise call.refuse("the axes must be constant")
    places = tuple(normal(axis, a.low.ndim) for axis in axes.low.tolist())
    for place in places:
        keep_rows(call, a, place)
    keep = bool(call.attributes.get("keepdims", 1))
    units = a.exponent.min(axis=places, keepdims=keep)
    terms = int(np.prod([a.low.shape[place] for place in places]))
    bits = check_bound(call, a.magnitude.sum(axis=places, keepdims=keep), units, terms)
    low, high = (part.sum(axis=places, keepdims=keep) for part in (a.low, a.high))
    box = Box(low, high, units, np.zeros(low.shape, bool), rowed=a.rowed)
    return box, obligation(call, "ReduceSum", a, units, terms, bits)


def reduce_max(call: Call) -> tuple[Box, None]:
    """Greatest value along axes that are not the rows: order-free up to the sign of zero, which nothing may depend on."""
    (a,) = call.boxes
    axes: Any = call.attributes.get("axes")
    if axes is None:
        raise call.refuse("no axes: the maximum would run over the rows")
    if a.nan.any():
        raise call.refuse("NaN may reach the maximum")
    places = tuple(normal(axis, a.low.ndim) for axis in axes)
    for place in places:
        keep_rows(call, a, place)
    keep = bool(call.attributes.get("keepdims", 1))
    low, high = (part.max(axis=places, keepdims=keep) for part in (a.low, a.high))
    exponent = a.exponent.min(axis=places, keepdims=keep)
    return Box(low, high, exponent, np.zeros(low.shape, bool), rowed=a.rowed), None


def need_exact_input(call: Call, a: Box) -> None:
    """Refuse a summand that is not a bounded float64 tensor of rows."""
    if not a.finite:
        raise call.refuse(f"NaN or an infinity may arrive in {a.name}: Clip it first")
    if a.dtype != np.float64 or not a.rowed:
        raise call.refuse(f"{a.name} must be float64 with a row axis, it is {a.dtype}")


def check_bound(call: Call, reach: np.ndarray, units: np.ndarray, terms: int) -> float:
    """Return log2 of the greatest sum in units; refuse where one may pass 2^53."""
    in_units = np.asarray(reach / power(units) * (1.0 + terms * SUM_SLACK))
    worst = int(in_units.argmax())
    if not in_units.flat[worst] <= EXACT:
        raise call.refuse(
            f"output {worst} may sum to 2^{np.log2(in_units.flat[worst]):.1f} units of 2^{units.flat[worst]}, "
            "more than 2^53: a weight, the bias or the input is off its grid, or the input is not clipped tightly",
        )
    return float(np.log2(max(float(in_units.flat[worst]), 1.0)))


def obligation(call: Call, op: str, a: Box, units: np.ndarray, terms: int, bits: float) -> Obligation:
    """Write down what was met."""
    span = (float(a.low.min()), float(a.high.max()))
    used = units[units < ZERO_GRID // 2]  # an output whose weights are all zero has no unit
    exponents = (int(used.max(initial=units.min())), int(used.min(initial=units.max())))
    return Obligation(call.node, op, terms, units.size, exponents, bits, span, int(a.exponent.min()))


RULES = {"Gemm": gemm, "ReduceSum": reduce_sum, "ReduceMax": reduce_max}
