"""The folded network as a graph in exact arithmetic: integers carried in float64, Clip and Round between the layers.

A hidden layer is three nodes: Gemm (its result in steps of the next layer's grid already), Clip to [0, 2^bits], which
does ReLU's work, and Round. A row of which any hidden activation met the upper limit is flagged by the output
`saturated`: it left the range that training saw by more than the headroom.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.exact_softmax import emit_softmax
from training.fold import Folded, Layer
from training.graph import Graph, TensorProto
from training.grids import channel_scale, choose_bits, power_at_least, quantise
from training.preprocess import Preprocess

HEADROOM = 8.0  # hidden activations may reach this many times what the training rows reached

Maxima = Sequence[Sequence[np.ndarray]]  # a member, a hidden layer: [channels] greatest activation in training


@dataclass(frozen=True)
class Carried:
    """A tensor of integers that stands for activations: a_k = 2^-bits · scale_k · A_k."""

    name: str  # [rows, channels] float64
    bits: int
    scale: np.ndarray  # [channels], powers of two
    peak: np.ndarray  # [channels], greatest |A_k|


def exact_graph(folded: Folded, preprocess: Preprocess, maxima: Maxima, headroom: float = HEADROOM) -> Graph:
    """Return the whole graph, from raw features to float32 outputs and `saturated` [rows, 1] bool."""
    graph = Graph()
    numeric, categorical = preprocess.declare(graph)
    first = emit_first(graph, folded, preprocess, numeric, categorical)
    scores, flags = emit_members(graph, folded, first, maxima, headroom)
    emit_outputs(graph, folded, emit_sum(graph, scores))
    emit_saturated(graph, first, flags)
    return graph


def emit_first(
    graph: Graph, folded: Folded, preprocess: Preprocess, numeric: str | None, categorical: str | None
) -> Carried:
    """Append preprocessing, embeddings and the rounding of both to the first layer's input grid."""
    x, bounds = preprocess.emit(graph, numeric, categorical)
    limits = [bounds, *(np.abs(table).max(axis=0) for table in folded.embeddings)]
    greatest = np.concatenate(limits)  # [in]
    scale = power_at_least(greatest)
    heads = [member.layers[0] for member in folded.members]
    joined = Layer(np.concatenate([head.weight for head in heads]), np.concatenate([head.bias for head in heads]))
    bits = choose_bits(joined, scale, greatest)
    steps = np.ldexp(1.0 / scale, bits)  # [in], exact
    scaled = graph.add("Mul", [x, graph.constant("input_steps", steps[: len(bounds)])], "input_scaled")
    parts = [graph.add("Round", [scaled], "input_rounded")]
    start = len(bounds)
    for column, table in zip(folded.embedded, folded.embeddings, strict=True):
        assert categorical is not None, "an embedded column needs the categorical input"
        stored = np.rint(table * steps[start : start + table.shape[1]])
        parts.append(emit_embedding(graph, categorical, column, stored))
        start += table.shape[1]
    name = graph.add("Concat", parts, "input", axis=1) if len(parts) > 1 else parts[0]
    return Carried(name, bits, scale, np.rint(greatest * steps))


def emit_embedding(graph: Graph, categorical: str, column: int, table: np.ndarray) -> str:
    """Append one column's Gather from `table` [codes, dim], its codes clipped to the table; returns [rows, dim]."""
    codes = graph.add(
        "Gather",
        [categorical, graph.constant(f"column_{column}", np.asarray(column, np.int64))],
        f"codes_{column}",
        axis=1,
    )
    limits = [
        graph.constant(f"code_least_{column}", np.asarray(0, np.int64)),
        graph.constant(f"code_most_{column}", np.asarray(len(table) - 1, np.int64)),
    ]
    clipped = graph.add("Clip", [codes, *limits], f"codes_clipped_{column}")
    return graph.add("Gather", [graph.constant(f"embeddings_{column}", table), clipped], f"embedding_{column}", axis=0)


def emit_members(
    graph: Graph, folded: Folded, first: Carried, maxima: Maxima, headroom: float
) -> tuple[list[str], list[str]]:
    """Append all networks, depth by depth; returns their scores [rows, outputs] float64 and a flag each depth.

    The members' layers of one depth share the bits of their grid, so that one maximum over all of them is one flag.
    """
    carried = [first] * len(folded.members)
    flags = []
    for depth, greatest in enumerate(zip(*maxima, strict=True)):
        scales = [channel_scale(member, headroom) for member in greatest]
        following = [member.layers[depth + 1] for member in folded.members]
        choices = [choose_bits(*each) for each in zip(following, scales, greatest, strict=True)]
        bits = round(float(np.median(choices)))
        steps = [
            emit_affine(graph, f"member{number}_layer{depth}", member.layers[depth], a, np.ldexp(scale, -bits))
            for number, (member, a, scale) in enumerate(zip(folded.members, carried, scales, strict=True))
        ]
        carried = [emit_hidden(graph, step, bits, scale) for step, scale in zip(steps, scales, strict=True)]
        flags.append(emit_flag(graph, steps, bits))
    scores = []
    for number, (member, a) in enumerate(zip(folded.members, carried, strict=True)):
        last, name = member.layers[-1], f"member{number}_layer{len(member.layers) - 1}"
        scores.append(emit_affine(graph, name, last, a, np.ones(len(last.bias))))
    return scores, flags


def emit_affine(graph: Graph, name: str, layer: Layer, carried: Carried, unit: np.ndarray) -> str:
    """Append one affine map; returns [rows, out] float64 in `unit` [out]."""
    stored = quantise(layer, carried.bits, carried.scale, carried.peak, unit)
    operands = [
        carried.name,
        graph.constant(f"{name}_weight", stored.weight),
        graph.constant(f"{name}_bias", stored.bias),
    ]
    return graph.add("Gemm", operands, name)


def emit_hidden(graph: Graph, steps: str, bits: int, scale: np.ndarray) -> Carried:
    """Append Clip and Round of a hidden layer's result `steps` [rows, channels]."""
    limit = 2.0**bits
    limits = [graph.constant(f"{steps}_least", 0.0), graph.constant(f"{steps}_most", limit)]
    rounded = graph.add("Round", [graph.add("Clip", [steps, *limits], f"{steps}_clipped")], f"{steps}_rounded")
    return Carried(rounded, bits, scale, np.full(len(scale), limit))


def emit_flag(graph: Graph, steps: list[str], bits: int) -> str:
    """Append whether a row passes the limit of one depth in any member; returns [rows, 1] bool."""
    greatest = graph.add("Max", steps, "depth_max") if len(steps) > 1 else steps[0]  # [rows, channels]
    greatest = graph.add("ReduceMax", [greatest], "hidden_max", axes=[1], keepdims=1)  # [rows, 1]
    return graph.add("Greater", [greatest, graph.constant("hidden_limit", 2.0**bits)], "hidden_saturated")


def emit_sum(graph: Graph, totals: list[str]) -> str:
    """Append the sum of the members' scores, one after the other."""
    total = totals[0]
    for other in totals[1:]:
        total = graph.add("Add", [total, other], "members_sum")
    return total


def emit_outputs(graph: Graph, folded: Folded, scores: str) -> None:
    """Append the outputs for the task: `value`, or `probabilities` and `scores`."""
    output = folded.output
    width = len(folded.members[0].layers[-1].bias)
    if output.task == "regression":
        spread = graph.add("Mul", [scores, graph.constant("value_std", output.value_std)], "value_spread")
        value = graph.add("Add", [spread, graph.constant("value_mean", output.value_mean)], "value_double")
        emit_output(graph, "value", value, width)
        return
    emit_output(graph, "probabilities", emit_softmax(graph, scores, width), width)
    emit_output(graph, "scores", scores, width)


def emit_output(graph: Graph, name: str, source: str, width: int) -> None:
    """Append the Cast to float32 and the `Add +0.0` that settles the sign of zeros, and declare the output."""
    single = graph.add("Cast", [source], f"{name}_single", to=TensorProto.FLOAT)
    graph.settle(name, single, TensorProto.FLOAT, width)


def emit_saturated(graph: Graph, first: Carried, flags: list[str]) -> None:
    """Append the output `saturated` [rows, 1] bool: whether any hidden activation met its upper limit."""
    if not flags:  # no hidden layer: nothing is limited, and no input can be above its own peak
        greatest = graph.add("ReduceMax", [first.name], "input_max", axes=[1], keepdims=1)
        flags = [graph.add("Greater", [greatest, graph.constant("input_most", float(first.peak.max()))], "never")]
    flag = flags[0]
    for other in flags[1:]:
        flag = graph.add("Or", [flag, other], "any_saturated")
    graph.output("saturated", flag, TensorProto.BOOL, 1)
