"""Layers are put on grids on which their sums are exact, at as little cost in accuracy as the bits allow."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproof.training.export.exact.grids import DIGITS, channel_scale, choose_bits, power_at_least, quantise
from batchproof.training.network.fold import Layer
from batchproof.training.prove.box import grid_of


@given(st.floats(min_value=1e-300, max_value=1e300))
def test_power_at_least_is_the_least(x: float) -> None:
    """The power of two is not below x, and half of it is."""
    power = float(power_at_least(np.array([x]))[0])
    assert np.frexp(power)[0] == 0.5
    assert power / 2 < x <= power


def test_a_channel_that_hardly_fired_gets_room() -> None:
    """A channel's scale is a power of two over the headroom times its maximum, and at least an eighth of the mean's."""
    scale = channel_scale(np.array([1.0, 3.0, 0.0, 0.0]), 8.0)
    assert scale.tolist() == [8.0, 32.0, 1.0, 1.0]
    assert channel_scale(np.zeros(2), 8.0).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("inputs, outputs", [(1, 1), (5, 3), (300, 64)])
@pytest.mark.parametrize("size", [1e-12, 1.0, 1e9])
def test_sums_are_whole_numbers_of_a_unit_below_the_bound(inputs: int, outputs: int, size: float) -> None:
    """The stored weights and bias of a column are multiples of one unit, and their reach is at most 2^53 units."""
    random = np.random.default_rng(inputs)
    layer = Layer(random.normal(size=(outputs, inputs)) * size, random.normal(size=outputs) * size)
    scale, unit = power_at_least(random.uniform(0.1, 9, inputs)), power_at_least(random.uniform(0.1, 9, outputs))
    bits = choose_bits(layer, scale, scale)
    peak = np.full(inputs, 2.0**bits)
    stored = quantise(layer, bits, scale, peak, unit)
    units = np.ldexp(1.0, np.minimum(grid_of(stored.weight).min(axis=0), grid_of(stored.bias)).astype(np.int32))
    assert (peak @ np.abs(stored.weight) + np.abs(stored.bias) <= 2.0**DIGITS * units).all()
    exact = layer.weight.T * np.ldexp(scale, -bits)[:, None] / unit
    assert np.abs(stored.weight - exact).max() <= 2.0 ** (bits + 2 - DIGITS) * np.abs(exact).sum(axis=0).max()


def test_the_bits_balance_both_errors() -> None:
    """Two bits more or fewer than chosen make a layer's error greater."""
    random = np.random.default_rng(0)
    layer = Layer(random.normal(size=(64, 256)), random.normal(size=64))
    scale = np.ones(256)
    a = np.maximum(random.normal(size=(500, 256)) / 8.0, 0.0)  # [rows, in]
    maxima = a.max(axis=0)

    def error(bits: int) -> float:
        stored = quantise(layer, bits, scale, np.full(256, 2.0**bits), np.ones(64))
        found = np.rint(np.ldexp(a, bits)) @ stored.weight + stored.bias
        return float(np.sqrt(np.mean((found - (a @ layer.weight.T + layer.bias)) ** 2)))

    bits = choose_bits(layer, scale, maxima)
    assert error(bits) < min(error(bits - 2), error(bits + 2))


def test_a_layer_of_zeros_has_a_grid() -> None:
    """A layer whose weights are all zero is stored as it is."""
    layer = Layer(np.zeros((2, 3)), np.zeros(2))
    bits = choose_bits(layer, np.ones(3), np.zeros(3))
    stored = quantise(layer, bits, np.ones(3), np.full(3, 2.0**bits), np.ones(2))
    assert not stored.weight.any()
    assert not stored.bias.any()
