"""Walk a graph from its inputs to its answers, and see where each of them goes while some inputs move in their directions.

What is shown holds between any two rows that differ in the moving inputs only, each of which is missing in both rows or in neither,
and differs in its own direction. It holds for the rounded numbers that an engine computes, float32 or float64, as `rules` says.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx.helper import get_attribute_value

from batchproof.training.prove.box import ProofError
from batchproof.training.prove.declared import check_model, constant_value, input_boxes
from batchproof.training.prove.limits import MAX_ELEMENTS, Budget, shown
from batchproof.training.prove.monotone.rules import RULES
from batchproof.training.prove.monotone.trend import Trend, of_constant, of_input
from batchproof.training.prove.wire import structure_fault

MOVING = "numeric"  # the graph input whose columns move
RISING = {"value": slice(None), "quantiles": slice(None), "probabilities": slice(1, 2), "scores": slice(1, 2)}
FALLING = {"probabilities": slice(0, 1), "scores": slice(0, 1)}  # of two classes, the first


def unproved(model: bytes, directions: Sequence[int]) -> list[int]:
    """Return the columns of the input `numeric` with which an answer may go the wrong way: none where all is proved.

    `directions` has 1 for a column with which value, quantiles and the second of two classes must never fall, -1 where they must
    never rise, and 0 for all others. Raises ProofError for a node without a rule, and for a graph with other answers.
    """
    if holds(model, directions):
        return []
    singles = [
        (place, [each if at == place else 0 for at, each in enumerate(directions)])
        for place, each in enumerate(directions)
        if each
    ]
    return [place for place, single in singles if not holds(model, single)]


def holds(model: bytes, directions: Sequence[int]) -> bool:
    """Whether no answer goes the wrong way while all columns move in their directions; raises as `unproved` does."""
    trends = walk(model, directions)
    answers = [trends[name] for name in RISING if name in trends]
    if not answers or ("probabilities" in trends and trends["probabilities"].up.shape[1] != 2):
        raise ProofError("model", "answers neither with a value nor with the probabilities of two classes")
    up = (trends[name].up[:, part].all() for name, part in RISING.items() if name in trends)
    down = (trends[name].down[:, part].all() for name, part in FALLING.items() if name in trends)
    return all(up) and all(down)


def walk(model: bytes, directions: Sequence[int]) -> dict[str, Trend]:
    """Return the trend of every output of a file; raises as `unproved` does."""
    fault = structure_fault(model)
    if fault:
        raise ProofError("model", fault)
    parsed = onnx.load_model_from_string(model)
    check_model(parsed)
    graph, budget = parsed.graph, Budget()
    known = {stored.name: of_constant(constant_value(stored, stored.name)) for stored in graph.initializer}
    inputs = input_boxes(graph.input)
    for name, box in inputs.items():
        width = box.low.shape[1]
        moves = np.asarray(directions if name == MOVING else [0] * width, np.int8)
        if len(moves) != width:
            raise ProofError(name, f"has {width} columns, but {len(moves)} directions are given")
        known[name] = of_input(moves)
    with np.errstate(all="ignore"):
        for node in graph.node:
            if node.op_type == "IsNaN" and node.input[0] not in inputs:
                raise ProofError(node.name or node.op_type, "only an input may be tested for NaN")
            known[node.output[0]] = step(node, known, budget)
    return {value.name: known[value.name] for value in graph.output}


def step(node: onnx.NodeProto, known: Mapping[str, Trend], budget: Budget) -> Trend:
    """Return the trend of a node's output."""
    name = node.name or node.op_type
    if node.op_type not in RULES or node.domain:
        raise ProofError(name, f"{shown(node.op_type)} has no rule by which an answer could be shown to be monotone")
    attributes = {entry.name: get_attribute_value(entry) for entry in node.attribute}
    try:
        operands = [known[source] for source in node.input]
        largest = max(operand.up.size for operand in operands)
        elements = size_of(node.op_type, operands, attributes)
        if elements > max(MAX_ELEMENTS, largest):
            raise ProofError(name, f"{elements} elements for each row; at most {MAX_ELEMENTS} are supported")
        fault = budget.read(largest) or budget.write(elements)
        if fault:
            raise ProofError(name, fault)
        return RULES[node.op_type](name, operands, attributes)
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise ProofError(name, f"{node.op_type} does not fit its operands: {error}") from error


def size_of(op: str, operands: Sequence[Trend], attributes: Mapping[str, Any]) -> int:
    """Return how many elements the result of a node has, before it is derived."""
    shapes = [operand.up.shape for operand in operands]
    if op in ("Gemm", "MatMul"):
        first, second = shapes[0], shapes[1]
        stacks = np.broadcast_shapes(first[:-2], second[:-2])
        return int(
            prod(stacks)
            * first[-1 if attributes.get("transA") else -2]
            * second[-2 if attributes.get("transB") else -1]
        )
    if op == "Gather":
        return int(prod(shapes[0]) // shapes[0][attributes.get("axis", 0)] * prod(shapes[1]))
    if op in ("Concat", "Reshape", "Unsqueeze", "ReduceMax"):
        return sum(map(prod, shapes))
    return prod(np.broadcast_shapes(*shapes))
