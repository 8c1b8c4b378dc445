"""The folded network as a graph in exact arithmetic: integers carried in float64, Clip and Round between the layers.

A hidden layer is three nodes: a product, whose result is in steps of the next layer's grid, Clip from 0, which is the
ReLU, and Round; see `layers`. Where a hidden activation may exceed its range (the training maximum times the
headroom), the output `saturated` flags the rows in which one did.
"""

import numpy as np

from batchproof.training.export.exact.exponential import emit_exp
from batchproof.training.export.exact.grids import choose_bits, power_at_least
from batchproof.training.export.exact.layers import Carried, Maxima, emit_layers
from batchproof.training.export.exact.softmax import emit_softmax
from batchproof.training.export.float32 import emit_column, emit_sorted, emit_value
from batchproof.training.network.fold import Folded, Layer
from batchproof.training.preprocessing import ordered
from batchproof.training.preprocessing.onnx_graph import Graph, TensorProto
from batchproof.training.preprocessing.preprocess import Preprocess

HEADROOM = 8.0  # hidden activations may reach this many times their training maxima


def exact_graph(folded: Folded, preprocess: Preprocess, maxima: Maxima, headroom: float = HEADROOM) -> Graph:
    """Return the whole graph, from raw features to float32 outputs and `saturated` [rows, 1] bool."""
    graph = Graph()
    numeric, categorical = preprocess.declare(graph)
    first = emit_first(graph, folded, preprocess, numeric, categorical)
    scores, flags = emit_layers(graph, folded.members, first, maxima, headroom)
    emit_outputs(graph, folded, scores, is_ordered=bool(len(preprocess.ordered)))
    emit_saturated(graph, scores, flags)
    return graph


def emit_first(
    graph: Graph, folded: Folded, preprocess: Preprocess, numeric: str | None, categorical: str | None
) -> Carried:
    """Append preprocessing, embeddings and the rounding of both to the first layer's input grid; [rows, in]."""
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
    peak = np.rint(greatest * steps)
    return Carried(name, bits, scale, -peak, peak)


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


def emit_outputs(graph: Graph, folded: Folded, scores: str, *, is_ordered: bool = False) -> None:
    """Append the outputs for the task: `value` and `quantiles`, or `probabilities` and `scores`.

    They keep the order of the scores bit for bit where `is_ordered`.
    """
    output = folded.output
    width = len(folded.members[0].layers[-1].bias)
    if output.is_log and is_ordered:
        power = ordered.emit_signed_exp(graph, scores, output.log_limits)
        emit_output(graph, "value", emit_value(graph, power, output), width)
        return
    if output.is_log:
        emit_output(graph, "value", emit_exp(graph, scores, output.log_limits, output.log_unit), width)
        return
    if output.task == "regression":
        spread = graph.add("Mul", [scores, graph.constant("value_std", np.asarray(output.value_std))], "value_spread")
        value = graph.add("Add", [spread, graph.constant("value_mean", np.asarray(output.value_mean))], "value_double")
        has_quantiles = width > output.targets
        emit_output(graph, "value", emit_column(graph, value) if has_quantiles else value, output.targets)
        if has_quantiles:
            emit_output(graph, "quantiles", emit_sorted(graph, value, width - 1), width - 1)
        return
    probabilities = ordered.emit_probabilities(graph, scores) if is_ordered else emit_softmax(graph, scores, width)
    emit_output(graph, "probabilities", probabilities, width)
    emit_output(graph, "scores", scores, width)


def emit_output(graph: Graph, name: str, source: str, width: int) -> None:
    """Append the Cast to float32 and an `Add` of 0.0, which makes zeros positive, and declare the output."""
    single = graph.add("Cast", [source], f"{name}_single", to=TensorProto.FLOAT)
    graph.output_without_negative_zero(name, single, TensorProto.FLOAT, width)


def emit_saturated(graph: Graph, scores: str, flags: list[str]) -> None:
    """Append the output `saturated` [rows, 1] bool: whether a hidden activation of the row exceeded its limit."""
    if not flags:  # nothing is limited: no score is above the greatest float64; softmax has this node already
        greatest = graph.add("ReduceMax", [scores], "score_greatest", axes=[1], keepdims=1)
        never = graph.add("Greater", [greatest, graph.constant("score_limit", np.finfo(np.float64).max)], "never")
        graph.output("saturated", never, TensorProto.BOOL, 1)
        return
    flag = flags[0]  # [rows]
    for other in flags[1:]:
        flag = graph.add("Or", [flag, other], "any_saturated")
    column = graph.add("Unsqueeze", [flag, graph.constant("flag_axis", np.array([1]))], "saturated_column")
    graph.output("saturated", column, TensorProto.BOOL, 1)
