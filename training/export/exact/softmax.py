"""Softmax whose bits are the same everywhere: a table, a polynomial, and one sum on a grid.

For scores L [rows, classes], ρ the distance to a grid of 1/256 below the greatest score:

    v = Clip(256 · (max L − L), 0, 256 · 80)   k = Round(v)   ρ = v − k in [−1/2, 1/2]
    e = 2^b · exp(−k / 256) · exp(−ρ / 256)    the first two factors from a table, the last by a polynomial of degree 3

`exponential` says why these factors do. Only a *copy* of e that is rounded to whole numbers enters the sum: integers of
at most C · 2^b ≤ 2^52 add up exactly in any order. The unrounded e is divided by it, so that small probabilities keep
their relative precision. Of two classes the sum has two terms, which are rounded once in either order: it takes e itself. Scores more than 80 below the greatest count as 80 below it: a probability under 2e-35 reads
2e-35 (over the sum), above float32's subnormals.
"""

import numpy as np

from batchproof.training.export.exact.exponential import STEPS, emit_series
from batchproof.training.preprocessing.onnx_graph import Graph

REACH = 80  # distances below the greatest score are clipped to this


def emit_softmax(graph: Graph, scores: str, classes: int) -> str:
    """Append the softmax of `scores` [rows, classes] float64, finite; returns probabilities [rows, classes] float64."""
    top = graph.add("ReduceMax", [scores], "score_max", axes=[1], keepdims=1)  # [rows, 1]
    below = graph.add("Sub", [top, scores], "score_below")  # >= 0
    steps = graph.add("Mul", [below, graph.constant("score_steps", float(STEPS))], "score_in_steps")
    limits = [graph.constant("score_nearest", 0.0), graph.constant("score_farthest", float(STEPS * REACH))]
    near = graph.add("Clip", [steps, *limits], "score_reach")
    whole = graph.add("Round", [near], "score_whole")
    rest = graph.add("Sub", [near, whole], "score_rest")  # [-1/2, 1/2]
    bits = 52 - int(np.ceil(np.log2(classes)))
    code = graph.add("Cast", [whole], "score_code", to=7)
    coarse = graph.add("Gather", [graph.constant("exp_table", exp_table(bits)), code], "exp_coarse", axis=0)
    e = graph.add("Mul", [coarse, emit_series(graph, rest, sign=-1)], "exp")  # in units of 2^-bits
    axis = graph.constant("class_axis", np.array([1]))
    if classes == 2:
        return graph.add("Div", [e, graph.add("ReduceSum", [e, axis], "exp_sum", keepdims=1)], "softmax")
    copy = graph.add("Round", [e], "exp_whole")
    total = graph.add("ReduceSum", [copy, axis], "exp_sum", keepdims=1)
    # The greatest score by itself contributes 2^bits, so this Max changes nothing; it shows the prover that no divisor is 0.
    positive = graph.add("Max", [total, graph.constant("exp_sum_least", 2.0**bits)], "exp_sum_positive")
    return graph.add("Div", [e, positive], "softmax")


def exp_table(bits: int) -> np.ndarray:
    """Return 2^bits · exp(−k / STEPS) for k = 0 … STEPS · REACH, float64."""
    table: np.ndarray = np.ldexp(np.exp(-np.arange(STEPS * REACH + 1) / STEPS), bits)
    return table
