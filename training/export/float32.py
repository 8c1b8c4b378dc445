"""Export the folded network and its preprocessing as one float32 ONNX graph: raw feature values in, outputs out.

Values are encoded in float64, where the differences of large numbers are exact enough, and cast to float32 for the
network. Members are separate 2-D Gemms, whose rows do not depend on their batch (a batched 3-D product's do).
"""

import numpy as np
import onnx

from batchproof.training.network.fold import Folded, Member, Output
from batchproof.training.preprocessing import ordered
from batchproof.training.preprocessing.onnx_graph import Graph, TensorProto
from batchproof.training.preprocessing.preprocess import Preprocess

GRAPH_NAME = "batchproof"
ENDS = ("least", "most")


def export(preprocess: Preprocess, folded: Folded) -> onnx.ModelProto:
    """Return the checked float32 model."""
    graph = Graph()
    a = graph.add("Cast", [input_matrix(graph, preprocess, folded)], "input_float32", to=TensorProto.FLOAT)
    summed = ""
    for number, member in enumerate(folded.members):
        scores = member_scores(graph, member, a, number)
        summed = graph.add("Add", [summed, scores], "ensemble") if summed else scores
    width = len(folded.members[0].layers[-1].bias)
    outputs(graph, summed, folded.output, width, is_ordered=bool(len(preprocess.ordered)))
    return graph.model(GRAPH_NAME)


def input_matrix(graph: Graph, preprocess: Preprocess, folded: Folded) -> str:
    """Declare the graph's inputs and append their encoding; returns the first layer's input [rows, in] float64.

    Its columns are the encoded x, then the embeddings in the order of `folded.embedded`.
    """
    numeric, categorical = preprocess.declare(graph)
    parts = preprocess.emit_parts(graph, numeric, categorical)
    for column, table in zip(folded.embedded, folded.embeddings, strict=True):
        assert categorical is not None, "an embedded column is a column of the categorical input"
        index = graph.constant("embedded_column", np.asarray(column, np.int64))
        code = graph.add("Gather", [categorical, index], "embedded_code", axis=1)  # [rows]
        parts.append(graph.add("Gather", [graph.constant("embedding_table", table), code], "embedding", axis=0))
    return graph.add("Concat", parts, "input", axis=1) if len(parts) > 1 else parts[0]


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
        graph.output("scores", scores, TensorProto.FLOAT, width)
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
