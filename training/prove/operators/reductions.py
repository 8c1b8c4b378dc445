"""Class 3: sums that are exact in any order, because every partial sum is a whole number of units below 2^53.

Sound: let each term be an integer multiple of one unit, and the sum of the terms' greatest magnitudes be at most 2^53 units.
Then every sum of any subset of the terms, in any order, is a float64 number; each addition (fused or not) is exact,
and blocking, threads, vector width and split-K cannot change the result. Strassen-like products form other sums and
are ruled out by nothing in the file: no engine in use computes small dense products that way.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from batchproof.training.prove.box import ZERO_GRID, Box, power
from batchproof.training.prove.limits import shown
from batchproof.training.prove.node import Node
from batchproof.training.prove.operators.movement import constants, distinct, keep_rows

EXACT = 2.0**53  # units: float64 holds every integer up to here
SUM_SLACK = 2.0**-50  # relative, a term: covers the rounding of the bound's own float64 sum
FAR = 2.0**1000  # no sum may reach beyond: partial sums stay far from overflow


@dataclass(frozen=True)
class Obligation:
    """The bound that a sum had to keep, and how far below it stays."""

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


def gemm(call: Node) -> tuple[Box, Obligation | None]:
    """Affine map by a constant matrix: x [rows, in] -> [rows, out], or with the rows last, W [out, in] x [in, rows].

    Sound: the sums run along an axis that is not the rows, weights and bias are one for all rows, and `products` shows
    that each sum is exact in any order, or `picked` that it is rounded once.
    """
    a, b, bias = checked_operands(call)
    rows = 0 if a.rowed else 1  # the row axis of the result
    x, weight = (a, b) if a.rowed else (b, a)
    turned = [bool(call.attributes.get(name, 0)) for name in ("transA", "transB")]
    if x.low.ndim != 2 or x.rows != (rows ^ turned[rows]):
        raise call.refuse("the product would sum over the rows and mix them")
    values, grid = (part.T if turned[1 - rows] != bool(rows) else part for part in (weight.low, weight.exponent))
    if bias.low.ndim > 1 - rows and bias.low.shape[bias.low.ndim - 2 + rows] != 1:
        raise call.refuse("the bias must not vary along the row axis")
    outputs = values.shape[1]
    wide = bias.moved(lambda part: np.broadcast_to(part, (outputs, 1) if rows else (1, outputs)).reshape(outputs))
    row = x.moved(lambda part: part.reshape(-1))
    if picks_columns(values):
        return replace(picked(row, values, wide).moved(lambda part: np.expand_dims(part, rows)), rows=rows), None
    sums, bits = products(call, row, values, grid, wide)
    result = replace(sums.moved(lambda part: np.expand_dims(part, rows)), rows=rows)
    return result, obligation(call, "Gemm", x, sums.exponent, len(values) + 1, bits)


def picks_columns(weight: np.ndarray) -> bool:
    """Return whether each column of weight [in, out] is 0 but for a single 1."""
    return bool(((weight == 0.0) | (weight == 1.0)).all() and (weight.sum(axis=0) == 1.0).all())


def picked(x: Box, weight: np.ndarray, bias: Box) -> Box:
    """Return what is known of x [in] · weight [in, out] + bias [out], where the weight picks columns.

    Sound: x is finite, so every product is 0 or the picked element itself. The bias is added to it once, before or after
    zeros that change nothing, fused or not, so one rounding remains; zeros have no sign here.
    """
    (places,) = np.nonzero(weight.T.reshape(-1))
    places = places % len(weight)
    chosen = x.moved(lambda part: part[places])
    with np.errstate(over="ignore"):
        low, high = chosen.low + bias.low, chosen.high + bias.high
    return Box(low, high, np.minimum(chosen.exponent, bias.exponent), np.zeros(low.shape, bool), None)


def matmul(call: Node) -> tuple[Box, Obligation]:
    """Products of several constant matrices, each with its own part of a row: W [k, out, in] x [k, in, rows].

    Sound as a Gemm is. What engines merge into a MatMul, a sum or a factor next to it, is refused on either side.
    """
    weight, x = call.boxes
    need_weights(call, weight)
    need_exact_input(call, x)
    if x.rows != 2 or x.low.ndim != 3 or weight.low.ndim != 3 or weight.low.shape[0] != x.low.shape[0]:
        raise call.refuse(
            "only products of a constant [k, out, in] and a tensor [k, in, rows] with the same k are supported"
        )
    if x.makers & {"Mul", "Div"}:
        raise call.refuse(
            f"{shown(x.name)} was multiplied by a factor: engines merge the factor into the matrix product"
        )
    values, grid = (part.swapaxes(1, 2) for part in (weight.low, weight.exponent))  # [k, in, out]
    shape = (len(values), values.shape[2])
    nothing = Box(np.zeros(shape), np.zeros(shape), np.full(shape, ZERO_GRID), np.zeros(shape, bool), None)
    sums, bits = products(call, x.moved(lambda part: part[:, :, 0]), values, grid, nothing)
    result = replace(sums.moved(lambda part: part[:, :, None]), rows=2)
    return result, obligation(call, "MatMul", x, sums.exponent, values.shape[1], bits)


def products(call: Node, x: Box, weight: np.ndarray, grid: np.ndarray, bias: Box) -> tuple[Box, float]:
    """Return what is known of Σ_in x [.., in] · weight [.., in, out] + bias [.., out], and its bound's bits.

    grid [.., in, out] holds the exponents of the weights' grids.
    """
    units = np.minimum((x.exponent[..., None] + grid).min(axis=-2), bias.exponent)  # [.., out]
    reach = (x.magnitude[..., None, :] @ np.abs(weight))[..., 0, :] + bias.magnitude  # [.., out]
    bits = check_bound(call, reach, units, weight.shape[-2] + 1)
    up, down = np.maximum(weight, 0.0), np.minimum(weight, 0.0)
    # The ends of x are on its grid, so these sums are exact too, in any order that NumPy adds them.
    low, high = (
        (first[..., None, :] @ up + other[..., None, :] @ down)[..., 0, :] + bias.low
        for first, other in ((x.low, x.high), (x.high, x.low))
    )
    return Box(low, high, units, np.zeros(low.shape, bool), None), bits


def checked_operands(call: Node) -> tuple[Box, Box, Box]:
    """Refuse a Gemm that is not x W + b, or W x + b, with constant, finite W and b and finite x."""
    if call.attributes.get("alpha", 1.0) != 1.0 or call.attributes.get("beta", 1.0) != 1.0:
        raise call.refuse(
            "alpha and beta must be 1: engines differ in whether they round another factor before or after the sum"
        )
    if len(call.boxes) != 3 or not call.boxes[2].name:
        raise call.refuse("a bias is required: engines merge a following Add into the product")
    a, b, bias = call.boxes
    x, weight = (a, b) if a.rowed else (b, a)
    need_weights(call, weight)
    need_weights(call, bias)
    need_exact_input(call, x)
    return a, b, bias


def need_weights(call: Node, box: Box) -> None:
    """Refuse weights or a bias that are not constant and finite."""
    if not box.constant or not box.finite:
        raise call.refuse(f"{shown(box.name)} must be constant and finite")


def reduce_sum(call: Node) -> tuple[Box, Obligation | None]:
    """Sum along constant axes that are not the rows.

    Sound: each axis is named once, none is the rows, and the bound makes the sum exact in any order. A sum of two terms
    needs no bound: a + b is b + a, and 0 before them changes nothing, so it is rounded once as an Add is.
    """
    if len(call.boxes) < 2 or not call.boxes[1].name:
        raise call.refuse("axes are required: without them the sum would run over the rows")
    a, axes = call.boxes
    need_exact_input(call, a)
    places = distinct(call, constants(call, axes), a.low.ndim)
    for place in places:
        keep_rows(call, a, place)
    keep = bool(call.attributes.get("keepdims", 1))
    units = a.exponent.min(axis=places, keepdims=keep)
    terms = int(np.prod([a.low.shape[place] for place in places]))
    reach = a.magnitude.sum(axis=places, keepdims=keep)
    low, high = (part.sum(axis=places, keepdims=keep) for part in (a.low, a.high))
    if terms <= 2:
        need_far_below(call, reach)
        return Box(low, high, units, np.zeros(low.shape, bool), rows_left(a, places, keep=keep)), None
    bits = check_bound(call, reach, units, terms)
    box = Box(low, high, units, np.zeros(low.shape, bool), rows_left(a, places, keep=keep))
    return box, obligation(call, "ReduceSum", a, units, terms, bits)


def reduce_max(call: Node) -> tuple[Box, None]:
    """Greatest value along axes that are not the rows.

    Sound: its order matters only for the sign of zero, on which nothing may depend, and for NaN, which is refused.
    """
    (a,) = call.boxes
    axes: Any = call.attributes.get("axes")
    if axes is None:
        raise call.refuse("axes are required: without them the maximum would run over the rows")
    if a.nan.any():
        raise call.refuse("NaN may reach the maximum")
    places = distinct(call, axes, a.low.ndim)
    for place in places:
        keep_rows(call, a, place)
    keep = bool(call.attributes.get("keepdims", 1))
    low, high = (part.max(axis=places, keepdims=keep) for part in (a.low, a.high))
    exponent = a.exponent.min(axis=places, keepdims=keep)
    return Box(low, high, exponent, np.zeros(low.shape, bool), rows_left(a, places, keep=keep)), None


def rows_left(a: Box, places: tuple[int, ...], *, keep: bool) -> int | None:
    """Return the row axis once the axes `places` are gone, or kept with length 1."""
    return a.rows if keep or a.rows is None else a.rows - sum(place < a.rows for place in places)


def need_exact_input(call: Node, a: Box) -> None:
    """Refuse a summand that is not a bounded tensor of rows."""
    if not a.finite:
        raise call.refuse(f"{shown(a.name)} may be NaN or infinite: Clip it first")
    if not a.rowed:
        raise call.refuse(f"{shown(a.name)} must have a row axis, but it is constant")


def check_bound(call: Node, reach: np.ndarray, units: np.ndarray, terms: int) -> float:
    """Return log2 of the greatest sum in units; refuse where one may pass 2^53."""
    in_units = np.asarray(reach / power(units) * (1.0 + terms * SUM_SLACK))
    worst = int(in_units.argmax())
    need_far_below(call, reach)
    if not in_units.flat[worst] <= EXACT:
        raise call.refuse(
            f"output {worst} may sum to 2^{np.log2(in_units.flat[worst]):.1f} units of 2^{units.flat[worst]}, "
            "more than 2^53: a weight, the bias or the input is off its grid, or the input is not clipped tightly",
        )
    return float(np.log2(max(float(in_units.flat[worst]), 1.0)))


def need_far_below(call: Node, reach: np.ndarray) -> None:
    """Refuse a sum that may come near the largest float64."""
    if not (reach <= FAR).all():
        raise call.refuse(f"a sum may reach {reach.max():g}, which is too close to the largest float64")


def obligation(call: Node, op: str, a: Box, units: np.ndarray, terms: int, bits: float) -> Obligation:
    """Return the record of a sum that met its bound."""
    span = (float(a.low.min()), float(a.high.max()))
    used = units[units < ZERO_GRID // 2]  # an output whose weights are all zero has no unit
    exponents = (int(used.max(initial=units.min())), int(used.min(initial=units.max())))
    return Obligation(call.node, op, terms, units.size, exponents, bits, span, int(a.exponent.min()))


RULES = {"Gemm": gemm, "MatMul": matmul, "ReduceSum": reduce_sum, "ReduceMax": reduce_max}
