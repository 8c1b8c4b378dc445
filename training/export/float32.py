"""Export the folded network and its preprocessing as one float32 ONNX graph: raw feature values in, outputs out.

Values are encoded in float64, where the differences of large numbers are exact enough, and cast to float32 for the
network. What only multiplies an encoded value is folded into the first layer's weights. Members are separate 2-D Gemms,
whose rows do not depend on their batch (a batched 3-D product's do).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnx

from batchproof.training.network.fold import Folded, Layer, Member, Output
from batchproof.training.preprocessing import ordered
from batchproof.training.preprocessing.categories import lookup
from batchproof.training.preprocessing.numbers.scaling import BOUND
from batchproof.training.preprocessing.onnx_graph import Graph, TensorProto
from batchproof.training.preprocessing.preprocess import Form, Preprocess

GRAPH_NAME = "batchproof"
ENDS = ("least", "most")


class Inputs(NamedTuple):
    """The first layer's inputs as a graph holds them."""

    parts: list[str]  # [rows, ..] float64 each, side by side
    place: (
        np.ndarray
    )  # [columns of all parts] int64, which input of the network's first layer each column is; -1: none, it is 0
    factor: np.ndarray  # [columns of all parts] float64, by what it has to be multiplied


def export(preprocess: Preprocess, folded: Folded) -> onnx.ModelProto:
    """Return the checked float32 model."""
    graph = Graph()
    scaled = BOUND if len(preprocess.ordered) else 1.0  # ordered columns come out of their nodes with this bound
    inputs = emit_inputs(graph, preprocess, folded.embedded, folded.embeddings, Form(scaled=scaled, is_exact=False))
    x = beside(graph, inputs.parts)
    a = graph.add("Cast", [x], "input_float32", to=TensorProto.FLOAT)
    summed = ""
    for number, member in enumerate(arranged(folded.members, inputs)):
        scores = member_scores(graph, member, a, number)
        summed = graph.add("Add", [summed, scores], "ensemble") if summed else scores
    width = len(folded.members[0].layers[-1].bias)
    outputs(graph, summed, folded.output, width, is_ordered=bool(len(preprocess.ordered)))
    return graph.model(GRAPH_NAME)


def emit_inputs(
    graph: Graph, preprocess: Preprocess, embedded: Sequence[int], tables: Sequence[np.ndarray], form: Form
) -> Inputs:
    """Declare the graph's inputs and append their encoding, the numbers in `form`, the categories by `tables` [codes, dim] float64.

    The first layer's inputs are the encoded x, then the embeddings in the order of `embedded`.
    """
    numeric, categorical = preprocess.declare(graph)
    parts, factors = preprocess.emit_numeric(graph, numeric, form), preprocess.factors(form)
    places = [np.arange(len(factors))]
    onehot, looked_up = preprocess.onehot, list(zip(embedded, tables, strict=True))
    start = len(factors)
    if categorical is not None and onehot is not None:
        identities = lookup.identities(onehot) if looked_up else []
        if looked_up and sum(table.size for _, table in identities) <= lookup.MOST_IDENTITY:
            looked_up = identities + looked_up
        else:
            parts.append(onehot.emit(graph, categorical))
            places.append(start + np.arange(len(onehot.column)))
            start += len(onehot.column)
    if looked_up:
        assert categorical is not None, "an embedded column is a column of the categorical input"
        found = lookup.emit(graph, categorical, preprocess.categorical, looked_up)
        parts.append(found.name)
        places.append(np.where(found.place < 0, -1, start + found.place))
    place = np.concatenate(places)
    return Inputs(parts, place, np.pad(factors, (0, len(place) - len(factors)), constant_values=1.0))


def beside(graph: Graph, parts: Sequence[str]) -> str:
    """Append what lays parts [rows, ..] side by side, where there are several."""
    return graph.add("Concat", parts, "input", axis=1) if len(parts) > 1 else parts[0]


def arranged(members: Sequence[Member], inputs: Inputs) -> list[Member]:
    """Return the members with first layers that read `inputs` in place of the network's own."""
    return [Member((_arranged(member.layers[0], inputs), *member.layers[1:])) for member in members]


def _arranged(layer: Layer, inputs: Inputs) -> Layer:
    return Layer(np.where(inputs.place < 0, 0.0, layer.weight[:, inputs.place] * inputs.factor), layer.bias)


def member_scores(graph: Graph, member: Member, a: str, number: int) -> str:
    """Append one network: Gemm and Relu for each layer, alpha = beta = 1; returns its scores [rows, outputs] float32."""
    last = len(member.layers) - 1
    for depth, layer in enumerate(member.layers):
        name = f"member{number}_layer{depth}"
        weight = graph.constant(f"{name}_weight", np.ascontiguousarray(layer.weight.T), np.float32)  # [in, out]
        bias = graph.constant(f"{name}_bias", layer.bias, np.float32)
        a = graph.add("Gemm", [a, weight, bias], name)
        if depth < last:
            a = graph.add("Relu", [a], f"{name}_relu")
    return a


def outputs(graph: Graph, scores: str, output: Output, width: int, *, is_ordered: bool = False) -> None:
    """Append the outputs: probabilities and scores [rows, classes], or the value [rows, targets] and its quantiles in the target's unit.

    They keep the order of the scores bit for bit where `is_ordered`.
    """
    if output.task != "regression":
        probabilities = emit_ordered(graph, scores) if is_ordered else graph.add("Softmax", [scores], "softmax", axis=1)
        graph.output("probabilities", probabilities, TensorProto.FLOAT, width)
        graph.output_itself("scores", scores, TensorProto.FLOAT, width)
        return
    if output.is_log and is_ordered:
        wide = graph.add("Cast", [scores], "score_float64", to=TensorProto.DOUBLE)
        value = emit_value(graph, ordered.emit_signed_exp(graph, wide, output.log_limits), output)
        graph.output("value", graph.add("Cast", [value], "value_float32", to=TensorProto.FLOAT), TensorProto.FLOAT, 1)
        return
    if output.is_log:
        limits = [
            graph.constant(f"log_{end}", limit, np.float32) for end, limit in zip(ENDS, output.log_limits, strict=True)
        ]
        scores = graph.add("Exp", [graph.add("Clip", [scores, *limits], "log_mean")], "mean")
    wide = graph.add("Cast", [scores], "score_float64", to=TensorProto.DOUBLE)
    value = emit_value(graph, wide, output)
    value = graph.add("Cast", [value], "value_float32", to=TensorProto.FLOAT)
    has_quantiles = width > output.targets
    graph.output("value", emit_column(graph, value) if has_quantiles else value, TensorProto.FLOAT, output.targets)
    if has_quantiles:
        graph.output("quantiles", emit_sorted(graph, value, width - 1), TensorProto.FLOAT, width - 1)


def emit_value(graph: Graph, scores: str, output: Output) -> str:
    """Append the values in the target's unit, float64, of scores of any shape, or of their exponentials where they are logarithms."""
    value = graph.add(
        "Mul", [scores, graph.constant("value_std", np.asarray(output.value_std), np.float64)], "value_spread"
    )
    if output.is_log:
        return value
    return graph.add(
        "Add", [value, graph.constant("value_mean", np.asarray(output.value_mean), np.float64)], "value_float64"
    )


def emit_ordered(graph: Graph, scores: str) -> str:
    """Append the probabilities [rows, 2] float32 of the scores [rows, 2] float32 of two classes, in their order bit for bit."""
    wide = graph.add("Cast", [scores], "score_float64", to=TensorProto.DOUBLE)
    probabilities = ordered.emit_probabilities(graph, wide)
    return graph.add("Cast", [probabilities], "probability_float32", to=TensorProto.FLOAT)


def emit_column(graph: Graph, values: str) -> str:
    """Append the value [rows, 1] of values [rows, 1 + levels]."""
    return graph.add("Gather", [values, graph.constant("value_place", np.array([0]))], "value_column", axis=1)


def emit_sorted(graph: Graph, values: str, levels: int) -> str:
    """Append the quantiles [rows, levels], ascending, of values [rows, 1 + levels].

    They are sorted by odd-even transposition (Habermann 1972): n rounds put every second pair of neighbours in order, each by
    Min, Max and a choice between them, so that no number is rounded, and no row looks at another.
    """
    places = graph.constant("quantile_places", np.arange(1, levels + 1))
    columns = graph.add("Gather", [values, places], "quantile_columns", axis=1)
    for start in range(levels if levels > 1 else 0):
        columns = _emit_round(graph, columns, levels, start % 2)
    return columns


def _emit_round(graph: Graph, columns: str, levels: int, first: int) -> str:
    """Append the columns with the pairs from `first` on in order."""
    neighbour, is_lower = np.arange(levels), np.ones((1, levels), np.bool_)
    for place in range(first, levels - 1, 2):
        neighbour[[place, place + 1]] = place + 1, place
        is_lower[0, place + 1] = False
    other = graph.add("Gather", [columns, graph.constant("neighbours", neighbour)], "neighbour", axis=1)
    lower, upper = graph.add("Min", [columns, other], "lower"), graph.add("Max", [columns, other], "upper")
    return graph.add("Where", [graph.constant("is_lower", is_lower), lower, upper], "ordered")
