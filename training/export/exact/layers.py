"""The layers of all members in exact arithmetic, with the rows along the last axis from the first product on.

Exact sums have no order, so the members of an ensemble share their products: the first layers are stacked in
one Gemm, the hidden layers are one MatMul of k matrices, and the last layers are joined into one Gemm that
adds the members up:

    first   [k · out, in] · [rows, in]ᵀ      hidden   [k, out, in] · [k, in, rows]      last   [k · in, rows]ᵀ · [k · in, out]

The rows come last because engines repack the right operand of a float64 product in every run: that way they repack the
few rows, not the weights. MatMul has no bias: a channel that is 1 for every row replaces it.

The range of a hidden channel is the largest value that its inputs' ranges and its weights allow. If some channel of a
layer could reach more than ROOM times the headroom, all channels of that layer are limited to the headroom.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from batchproof.training.export.exact.grids import (
    Affine,
    channel_scale,
    choose_bits,
    power_at_least,
    quantise,
    reach_of,
)
from batchproof.training.network.fold import Layer, Member
from batchproof.training.preprocessing.onnx_graph import Graph

ROOM = 64.0  # a depth that cannot exceed this many times its headroom gets its full reach, and cannot saturate

Maxima = Sequence[Sequence[np.ndarray]]  # a member, a hidden layer: [channels] greatest activation in training


@dataclass(frozen=True)
class Carried:
    """A tensor of integers that represents activations: a_k = 2^-bits · scale_k · A_k."""

    name: str
    bits: int
    scale: np.ndarray  # [channels], powers of two
    low: np.ndarray  # [channels], least A_k
    peak: np.ndarray  # [channels], greatest |A_k|

    @property
    def step(self) -> np.ndarray:
        """The value of one unit of each channel [channels]."""
        step: np.ndarray = np.ldexp(self.scale, -self.bits)
        return step


class Ranges(NamedTuple):
    """The grid of one depth's results."""

    bits: int
    scales: list[np.ndarray]  # a member: [channels]
    limited: bool  # whether a channel may exceed its range


def emit_layers(
    graph: Graph, members: Sequence[Member], first: Carried, maxima: Maxima, headroom: float
) -> tuple[str, list[str]]:
    """Append all networks, depth by depth; returns their summed scores [rows, outputs] and flags [rows] bool.

    There is a flag for each depth that is limited.
    """
    carried = [first] * len(members)
    depths = len(members[0].layers) - 1
    flags = []
    for depth in range(depths):
        greatest = [each[depth] for each in maxima]
        ranges = choose_ranges(members, depth, carried, greatest, headroom)
        stored = [
            quantise(member.layers[depth], a.bits, a.scale, a.peak, np.ldexp(scale, -ranges.bits))
            for member, a, scale in zip(members, carried, ranges.scales, strict=True)
        ]
        steps = emit_product(graph, f"layer{depth}", carried[0].name, stored, depth, last=depth == depths - 1)
        if ranges.limited:
            flags.append(emit_flag(graph, steps, ranges.bits, flat=depth == 0 or len(members) == 1))
        name = emit_rounding(graph, steps, ranges)
        carried = [
            follow(name, ranges, scale, a, each) for scale, a, each in zip(ranges.scales, carried, stored, strict=True)
        ]
    return emit_scores(graph, f"layer{depths}", [member.layers[-1] for member in members], carried, depths), flags


def choose_ranges(
    members: Sequence[Member], depth: int, carried: Sequence[Carried], greatest: Sequence[np.ndarray], headroom: float
) -> Ranges:
    """Return the grid of a depth's results, the same bits for all members.

    greatest: a member, [channels] greatest activation in training.
    """
    wanted = [channel_scale(each, headroom) for each in greatest]
    reach = [
        reach_of(member.layers[depth], a.low * a.step, a.peak * a.step)
        for member, a in zip(members, carried, strict=True)
    ]
    limited = any((top > ROOM * scale).any() for top, scale in zip(reach, wanted, strict=True))
    scales = [
        np.where(top > 0.0, np.minimum(power_at_least(top), scale if limited else np.inf), scale)
        for top, scale in zip(reach, wanted, strict=True)
    ]
    if depth + 2 == len(members[0].layers):
        last = beside([member.layers[-1] for member in members])
        return Ranges(choose_bits(last, np.concatenate(scales), np.concatenate(greatest)), scales, limited)
    choices = [
        choose_bits(member.layers[depth + 1], scale, top)
        for member, scale, top in zip(members, scales, greatest, strict=True)
    ]
    return Ranges(round(float(np.median(choices))), scales, limited)


def follow(name: str, ranges: Ranges, scale: np.ndarray, carried: Carried, stored: Affine) -> Carried:
    """Return a member's rounded results as the next layer's input."""
    reach = reach_of(Layer(stored.weight.T, stored.bias), carried.low, carried.peak)
    peak = np.rint(np.maximum(reach, 0.0))
    if ranges.limited:
        peak = np.minimum(peak, 2.0**ranges.bits)
    return Carried(name, ranges.bits, scale, np.zeros(len(peak)), peak)


def emit_product(graph: Graph, name: str, source: str, stored: Sequence[Affine], depth: int, *, last: bool) -> str:
    """Append the products of one depth of all members; returns [channels, rows], or [members, channels, rows].

    With several members, every hidden depth but the last gets an extra channel that is 1.
    """
    weights = [each.weight.T for each in stored]  # [out, in]
    biases = [each.bias for each in stored]
    ones = int(len(stored) > 1 and not last)  # channels that are 1
    if depth > 0 and len(stored) > 1:
        whole = np.stack([with_bias(*each, ones) for each in zip(weights, biases, strict=True)])
        if depth == 1:
            shape = graph.constant("members_shape", np.array([len(stored), whole.shape[2], -1]))
            source = graph.add("Reshape", [source, shape], "members")
        return graph.add("MatMul", [graph.constant(f"{name}_weight", whole), source], name)
    padded = [np.pad(weight, ((0, ones), (0, 0))) for weight in weights]
    column = np.concatenate([np.append(bias, np.ones(ones)) for bias in biases])[:, None]
    weight = graph.constant(f"{name}_weight", np.concatenate(padded))
    bias = graph.constant(f"{name}_bias", column)
    if depth == 0:
        return graph.add("Gemm", [weight, source, bias], name, transB=1)
    return graph.add("Gemm", [weight, source, bias], name)


def with_bias(weight: np.ndarray, bias: np.ndarray, ones: int) -> np.ndarray:
    """Return weight [out, in] with the bias as a column for the channel that is 1, and `ones` rows that pass it on."""
    whole = np.zeros((len(weight) + ones, weight.shape[1] + 1))
    whole[: len(weight), :-1], whole[: len(weight), -1] = weight, bias
    whole[len(weight) :, -1] = 1.0
    return whole


def emit_rounding(graph: Graph, steps: str, ranges: Ranges) -> str:
    """Append Clip and Round of a hidden depth's results `steps`."""
    limits = [graph.constant(f"{steps}_least", 0.0)]
    if ranges.limited:
        limits.append(graph.constant(f"{steps}_most", 2.0**ranges.bits))
    return graph.add("Round", [graph.add("Clip", [steps, *limits], f"{steps}_clipped")], f"{steps}_rounded")


def emit_flag(graph: Graph, steps: str, bits: int, *, flat: bool) -> str:
    """Append whether any channel of one depth exceeds its limit; returns [rows] bool."""
    axes = [0] if flat else [0, 1]
    greatest = graph.add("ReduceMax", [steps], "hidden_max", axes=axes, keepdims=0)  # [rows]
    return graph.add("Greater", [greatest, graph.constant("hidden_limit", 2.0**bits)], "hidden_saturated")


def emit_scores(graph: Graph, name: str, layers: Sequence[Layer], carried: Sequence[Carried], depths: int) -> str:
    """Append the last layers of all members, and with them their sum, as one Gemm; returns [rows, outputs] float64."""
    first = carried[0]
    if depths == 0:  # all members read the same inputs
        summed = Layer(
            np.sum([layer.weight for layer in layers], axis=0), np.sum([layer.bias for layer in layers], axis=0)
        )
        return emit_last(
            graph, name, quantise(summed, first.bits, first.scale, first.peak, unit_of(summed)), first.name
        )
    joined = beside(layers)
    scale, peak = (np.concatenate([getattr(a, part) for a in carried]) for part in ("scale", "peak"))
    stored = quantise(joined, first.bits, scale, peak, unit_of(joined))
    source = first.name
    if depths > 1 and len(layers) > 1:
        source = graph.add("Reshape", [source, graph.constant("flat_shape", np.array([len(peak), -1]))], "flat")
    return emit_last(graph, name, stored, source, transA=1)


def emit_last(graph: Graph, name: str, stored: Affine, source: str, **attributes: int) -> str:
    """Append the Gemm whose result has the rows first again."""
    weight = np.ascontiguousarray(
        stored.weight.T
    )  # [out, in]: a product of few columns takes a quarter less time by it
    operands = [source, graph.constant(f"{name}_weight", weight), graph.constant(f"{name}_bias", stored.bias)]
    return graph.add("Gemm", operands, name, transB=1, **attributes)


def unit_of(layer: Layer) -> np.ndarray:
    """Return the value of one unit of each score: 1."""
    return np.ones(len(layer.bias))


def beside(layers: Sequence[Layer]) -> Layer:
    """Return the layer whose result is the sum of those of `layers`, each with its own inputs: [out, Σ in]."""
    return Layer(
        np.concatenate([layer.weight for layer in layers], axis=1), np.sum([layer.bias for layer in layers], axis=0)
    )
