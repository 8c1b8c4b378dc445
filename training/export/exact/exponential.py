"""exp whose bits are the same everywhere: a table for steps of 1/256, and a polynomial between them.

For a score z within the limits, in steps v = 256 z, and ρ the distance to the nearest step:

    k = Round(v)   ρ = v − k in [−1/2, 1/2]   exp(z) = exp(k / 256) · exp(ρ / 256)

the first factor from the table, the last by a polynomial of degree 3. The truncated series is off by at most
(1/512)^4 / 4! = 6e-13 of the result, far below float32's 6e-8; a table of 164 kB spares a degree, which is two nodes,
against steps of 1/32. Each node is one rounded operation an element, so that no sum has an order.
"""

from math import factorial

import numpy as np

from batchproof.training.preprocessing.onnx_graph import Graph, TensorProto

STEPS = 256  # table entries a unit of the scores
DEGREE = 3


def emit_exp(graph: Graph, scores: str, limits: tuple[float, float], factor: float) -> str:
    """Append factor · exp(scores), the scores clipped to the whole `limits`; shapes are those of `scores`, float64, finite."""
    least, most = limits[0] * STEPS, limits[1] * STEPS
    steps = graph.add("Mul", [scores, graph.constant("log_steps", float(STEPS))], "log_in_steps")
    ends = [graph.constant("log_least", least), graph.constant("log_most", most)]
    near = graph.add("Clip", [steps, *ends], "log_reach")
    whole = graph.add("Round", [near], "log_whole")
    rest = graph.add("Sub", [near, whole], "log_rest")  # [-1/2, 1/2]
    place = graph.add("Sub", [whole, graph.constant("log_first", least)], "log_place")
    code = graph.add("Cast", [place], "log_code", to=TensorProto.INT64)
    table = factor * np.exp(np.arange(least, most + 1) / STEPS)
    coarse = graph.add("Gather", [graph.constant("exp_table", table), code], "exp_coarse", axis=0)
    return graph.add("Mul", [coarse, emit_series(graph, rest, sign=1)], "exp")


def emit_series(graph: Graph, rest: str, *, sign: int) -> str:
    """Append the Taylor polynomial of exp(sign · rest / STEPS) in Horner form, one Mul and one Add a step."""
    terms = [(sign / STEPS) ** n / factorial(n) for n in range(DEGREE + 1)]
    value = graph.constant(f"series_{DEGREE}", terms[DEGREE])
    for n in reversed(range(DEGREE)):
        product = graph.add("Mul", [value, rest], f"series_times_{n}")
        value = graph.add("Add", [product, graph.constant(f"series_{n}", terms[n])], f"series_plus_{n}")
    return value
