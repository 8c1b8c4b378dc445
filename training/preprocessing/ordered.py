"""Functions whose value never falls where their operand grows, bit for bit, as nodes.

Every node is one correctly rounded operation that is monotone in each operand in the range that it is used in, and rounding to
nearest never exchanges two numbers. So a chain of them is monotone as it is computed, not only as it is meant. Quotients such as
z / sqrt(1 + z^2) and sums such as exp(a) / (exp(a) + exp(b)) are not: numerator and denominator both grow and are both rounded,
and where the quotient is flat its last digit goes up and down. `training.prove.monotone` checks the nodes by their operators.
"""

from math import factorial

import numpy as np

from batchproof.training.preprocessing.onnx_graph import Graph

SQUARINGS, DEGREE = 13, 4  # of `emit_exp`: its relative error is at most reach^5 / 5! / 2^52, 6e-9 at a reach of 80
REACH = 80.0  # log-odds beyond which a probability stays as it is: 2e-35


def emit_softsign(graph: Graph, z: str, bound: float, far: float) -> str:
    """Append z / (1 + |z| / bound) for z of any shape, float64, not NaN: within the bound, and flat beyond `far`.

    With p and n the parts of z above and below 0, p >= 0 >= n, it is bound / (1 - n / bound) - bound / (1 + p / bound).
    """
    top = _everywhere(graph, z, "softsign_bound", bound)
    parts = []
    for name, low, high, inverse in (("below", -far, 0.0, -1.0 / bound), ("above", 0.0, far, 1.0 / bound)):
        limits = [graph.constant(f"softsign_{name}_{end}", limit) for end, limit in (("low", low), ("high", high))]
        part = graph.add("Clip", [z, *limits], f"softsign_{name}")
        size = graph.add("Mul", [part, graph.constant(f"softsign_{name}_unit", inverse)], f"softsign_{name}_size")
        whole = graph.add("Add", [size, graph.constant("softsign_one", 1.0)], f"softsign_{name}_divisor")
        parts.append(graph.add("Div", [top, whole], f"softsign_{name}_share"))
    return graph.add("Sub", parts, "softsign")


def emit_exp(graph: Graph, x: str) -> str:
    """Append exp(x) for x of any shape, float64, from 0 to REACH: a Taylor polynomial of x / 2^SQUARINGS, squared so often.

    All terms are 0 or more, so that every product and every sum grows with x; exp(0) is 1.
    """
    terms = [2.0 ** (-SQUARINGS * n) / factorial(n) for n in range(DEGREE + 1)]
    value = graph.constant(f"power_term_{DEGREE}", terms[DEGREE])
    for n in reversed(range(DEGREE)):
        product = graph.add("Mul", [value, x], f"power_times_{n}")
        value = graph.add("Add", [product, graph.constant(f"power_term_{n}", terms[n])], f"power_plus_{n}")
    for _ in range(SQUARINGS):
        value = graph.add("Mul", [value, value], "power_squared")
    return value


def emit_signed_exp(graph: Graph, x: str, limits: tuple[float, float]) -> str:
    """Append exp(x), x of any shape, float64, clipped to the limits, of which the first is 0 or less and the last 0 or more.

    It is exp of the part above 0 over exp of the size of that below.
    """
    low, zero, high = (
        graph.constant(f"exp_{name}", limit)
        for name, limit in zip(("low", "zero", "high"), (limits[0], 0.0, limits[1]), strict=True)
    )
    above = emit_exp(graph, graph.add("Clip", [x, zero, high], "exp_above"))
    below = graph.add("Clip", [x, low, zero], "exp_below")
    size = graph.add("Mul", [below, graph.constant("exp_minus", -1.0)], "exp_below_size")
    return graph.add("Div", [above, emit_exp(graph, size)], "exp")


def emit_probabilities(graph: Graph, scores: str) -> str:
    """Append the probabilities [rows, 2] of the scores [rows, 2] float64: each never falls where its score less the other's grows.

    With e = exp(max(own score - other score, 0)), of which one is 1, a probability is 1 / (1 + e of the other / e of its own).
    """
    swap = graph.constant("other_class", np.array([1, 0]))
    gap = graph.add("Sub", [scores, graph.add("Gather", [scores, swap], "other_score", axis=1)], "score_gap")
    limits = [graph.constant("gap_low", 0.0), graph.constant("gap_high", REACH)]
    own = emit_exp(graph, graph.add("Clip", [gap, *limits], "gap_above"))
    odds = graph.add("Div", [graph.add("Gather", [own, swap], "other_power", axis=1), own], "odds_against")
    divisor = graph.add("Add", [odds, graph.constant("odds_one", 1.0)], "odds_divisor")
    return graph.add("Div", [_everywhere(graph, own, "certain", 1.0), divisor], "logistic")


def _everywhere(graph: Graph, like: str, name: str, value: float) -> str:
    """Append `value` in the shape of a tensor: engines may merge a stored constant over a tensor with what follows."""
    return graph.add("Clip", [like, *(graph.constant(f"{name}_{end}", value) for end in ("low", "high"))], name)
