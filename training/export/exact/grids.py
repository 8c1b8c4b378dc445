"""Choose power-of-two grids that are coarse enough for every dot product of an affine layer to be exact in float64.

An affine layer z_j = Σ_k w_jk a_k + b_j is carried in integers. Input channel k is a_k = s · t_k · A_k with an
integer A_k, |A_k| ≤ peak_k; t_k is the channel's own power of two and s = 2^-bits the step that the layer's inputs
share. The stored weights produce the result in the next layer's units already (`unit` below), so that between two
layers only Clip and Round are left:

    stored weight  V_jk = w_jk · s · t_k / unit_j   rounded to a multiple of g_j
    stored bias    β_j  = b_j / unit_j              rounded to a multiple of g_j

With Σ_k |V_jk| · peak_k + |β_j| ≤ 2^53 · g_j every partial sum is a whole number of g_j that float64 holds. The bound
takes the column's true L1 norm. The argument is section "Why it holds" of docs/exact.md.
"""

from typing import NamedTuple

import numpy as np

from batchproof.training.network.fold import Layer

DIGITS = 53  # binary digits of float64
RESERVE = 1.0 - 2.0**-30  # of the bound: covers the rounding of the sum that computes it
TYPICAL = 1.0 / 3.0  # root mean square of a channel over its maximum, for balancing the two rounding errors
# Of a layer's mean channel maximum: the least range of a channel that was rarely active in training.
LEAST_ROOM = 1.0 / 8.0


class Affine(NamedTuple):
    """One layer as stored in the graph."""

    weight: np.ndarray  # [in, out] float64
    bias: np.ndarray  # [out] float64


def power_at_least(x: np.ndarray) -> np.ndarray:
    """Return the least power of two ≥ x for x > 0, and 1 for 0."""
    mantissa, exponent = np.frexp(np.where(x > 0.0, x, 1.0))
    power: np.ndarray = np.ldexp(1.0, exponent - (mantissa == 0.5))
    return power


def channel_scale(maxima: np.ndarray, headroom: float) -> np.ndarray:
    """Return the power of two t ≥ headroom · maximum of each channel [channels].

    maxima [channels] are the greatest activations over the training rows.
    """
    least = LEAST_ROOM * maxima.mean()
    return power_at_least(headroom * np.maximum(maxima, least))


def reach_of(layer: Layer, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return the greatest result [out] of a layer whose inputs lie between low and high [in]."""
    top: np.ndarray = np.maximum(layer.weight * low, layer.weight * high).sum(axis=1) + layer.bias
    return top


def choose_bits(layer: Layer, scale: np.ndarray, maxima: np.ndarray) -> int:
    """Return the bits of the inputs' grid that balance both rounding errors of a layer.

    layer [out, in] is what reads the inputs, scale and maxima [in] are those of their channels.
    With v = w · t and α = a / t, an input step 2^-bits costs ‖v_j‖ · 2^-bits, and the weight step that the bound then
    allows, g_j = 2^bits · L1_j / 2^53, costs g_j · ‖α‖. They are equal at 4^bits = ‖v_j‖ · 2^53 / (L1_j · ‖α‖).
    """
    v = layer.weight * scale  # [out, in]
    l1 = np.abs(v).sum(axis=1) + np.abs(layer.bias)
    used = l1 > 0.0
    alpha = TYPICAL * np.linalg.norm(maxima / scale)
    if not used.any() or alpha == 0.0:
        return DIGITS // 2
    four_power = np.linalg.norm(v, axis=1)[used] * 2.0**DIGITS / (l1[used] * alpha)
    return round(float(np.median(np.log2(np.maximum(four_power, 1.0)))) / 2)


def quantise(layer: Layer, bits: int, scale: np.ndarray, peak: np.ndarray, unit: np.ndarray) -> Affine:
    """Put a layer on its grids.

    layer [out, in]; its inputs are 2^-bits · scale [in] times integers of at most peak [in]; unit [out] is the power
    of two that one unit of the result represents.
    """
    step = np.ldexp(scale, -bits)  # [in]
    weight = layer.weight * step / unit[:, None]  # exact: powers of two
    bias = layer.bias / unit
    grid = power_at_least((np.abs(weight) @ peak + np.abs(bias)) / 2.0**DIGITS)  # [out]
    while True:
        stored = np.rint(weight / grid[:, None]) * grid[:, None], np.rint(bias / grid) * grid
        over = np.abs(stored[0]) @ peak + np.abs(stored[1]) > 2.0**DIGITS * RESERVE * grid
        if not over.any():
            return Affine(np.ascontiguousarray(stored[0].T), stored[1])
        grid = np.where(over, 2.0 * grid, grid)
