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
from batchproof.training.export.float32 import (
    Inputs,
    arranged,
    beside,
    emit_column,
    emit_inputs,
    emit_sorted,
    emit_value,
)
from batchproof.training.network.fold import Folded, Layer
from batchproof.training.preprocessing import ordered
from batchproof.training.preprocessing.numbers.piecewise import HEIGHT
from batchproof.training.preprocessing.numbers.scaling import BOUND
from batchproof.training.preprocessing.onnx_graph import Graph, TensorProto
from batchproof.training.preprocessing.preprocess import Form, Preprocess

HEADROOM = 8.0  # hidden activations may reach this many times their training maxima


def exact_graph(folded: Folded, preprocess: Preprocess, maxima: Maxima, headroom: float = HEADROOM) -> Graph:
    """Return the whole graph, from raw features to float32 outputs and `saturated` [rows, 1] bool."""
    graph = Graph()
    first, inputs = emit_first(graph, folded, preprocess)
    scores, flags = emit_layers(graph, arranged(folded.members, inputs), first, maxima, headroom)
    emit_outputs(graph, folded, scores, is_ordered=bool(len(preprocess.ordered)))
    emit_saturated(graph, scores, len(folded.members[0].layers[-1].bias), flags)
    return graph


def emit_first(graph: Graph, folded: Folded, preprocess: Preprocess) -> tuple[Carried, Inputs]:
    """Append the encoding on the first layer's input grid, and declare the graph's inputs; [rows, in].

    Encoded numbers come out of their nodes in steps of the grid, and are rounded. What is 0 or 1 stays so, and is a unit.
    """
    bounds = preprocess.bounds
    greatest = np.concatenate([bounds, *(np.abs(table).max(axis=0) for table in folded.embeddings)])  # [in]
    scale = power_at_least(greatest)
    heads = [member.layers[0] for member in folded.members]
    joined = Layer(np.concatenate([head.weight for head in heads]), np.concatenate([head.bias for head in heads]))
    bits = choose_bits(joined, scale, greatest)
    form = on_grid(bits)
    known = preprocess.factors(form)  # the value of a unit of each encoded number
    unit = np.concatenate([known, np.ones(len(bounds) - len(known)), np.ldexp(scale[len(bounds) :], -bits)])  # [in]
    ends = len(bounds) + np.cumsum([0, *(table.shape[1] for table in folded.embeddings)])
    stored = [
        np.rint(table / unit[start:end])
        for table, start, end in zip(folded.embeddings, ends[:-1], ends[1:], strict=True)
    ]
    inputs = emit_inputs(graph, preprocess, folded.embedded, stored, form)
    name = beside(graph, inputs.parts)
    if preprocess.scaling is not None:
        name = graph.add("Round", [name], "input_rounded")
    is_zero = inputs.place < 0
    unit, peak = (np.where(is_zero, 0.0, part[inputs.place]) for part in (unit, np.rint(greatest / unit)))
    carried = Carried(name, bits, np.ldexp(np.where(is_zero, 1.0, unit), bits), -peak, peak)
    return carried, inputs._replace(factor=np.ones(len(peak)))


def on_grid(bits: int) -> Form:
    """Return the form whose encoded numbers are in steps of 2^-bits of the least power of two that bounds them."""
    scaled, binned, wave = (
        bound / float(np.ldexp(power_at_least(np.asarray(bound)), -bits)) for bound in (BOUND, HEIGHT, 1.0)
    )
    return Form(scaled, binned, wave)


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


def emit_saturated(graph: Graph, scores: str, width: int, flags: list[str]) -> None:
    """Append the output `saturated` [rows, 1] bool: whether a hidden activation of the row exceeded its limit."""
    if not flags:  # nothing is limited: no score is above the greatest float64; softmax has this node already
        greatest = scores
        if width > 1:
            greatest = graph.add("ReduceMax", [scores], "score_greatest", axes=[1], keepdims=1)
        never = graph.add("Greater", [greatest, graph.constant("score_limit", np.finfo(np.float64).max)], "never")
        graph.output("saturated", never, TensorProto.BOOL, 1)
        return
    flag = flags[0]  # [rows]
    for other in flags[1:]:
        flag = graph.add("Or", [flag, other], "any_saturated")
    column = graph.add("Unsqueeze", [flag, graph.constant("flag_axis", np.array([1]))], "saturated_column")
    graph.output("saturated", column, TensorProto.BOOL, 1)
