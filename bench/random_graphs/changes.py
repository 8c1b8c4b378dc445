"""One change of a finished graph, which takes it to the border of what may be certified."""

import numpy as np
import onnx
from onnx import numpy_helper

from bench.random_graphs.drafts import numbers


def near_miss(model: onnx.ModelProto, random: np.random.Generator) -> None:
    """Change one thing of a graph."""
    change = random.choice(
        np.asarray([change_constant, change_constant, rewire, swap, drop_operand, change_attribute], object)
    )
    if model.graph.node:
        change(model.graph, random)


def change_constant(graph: onnx.GraphProto, random: np.random.Generator) -> None:
    """Put an edge in the place of one number of a constant."""
    if not graph.initializer:
        return
    stored = graph.initializer[int(random.integers(len(graph.initializer)))]
    value = numpy_helper.to_array(stored).copy()
    nearby = value.dtype.kind != "b" and random.random() < 0.5
    place = int(random.integers(value.size))
    with np.errstate(all="ignore"):
        if nearby and value.dtype.kind == "i":
            value.flat[place] ^= value.dtype.type(1)
        elif nearby:
            value.flat[place] = np.nextafter(value.flat[place], random.choice([-np.inf, np.inf]))
        else:
            value.flat[place] = numbers(random, value.dtype, [1])[0]
    stored.CopyFrom(numpy_helper.from_array(value, stored.name))


def rewire(graph: onnx.GraphProto, random: np.random.Generator) -> None:
    """Let a node read another tensor."""
    place = int(random.integers(len(graph.node)))
    node = graph.node[place]
    names = [value.name for value in (*graph.input, *graph.initializer)]
    names += [each.output[0] for each in graph.node[:place]]
    if node.input:
        node.input[int(random.integers(len(node.input)))] = str(random.choice(names))


def swap(graph: onnx.GraphProto, random: np.random.Generator) -> None:
    """Give a node another operator of as many operands."""
    node = graph.node[int(random.integers(len(graph.node)))]
    families = (
        ("Add", "Sub", "Mul", "Div", "Min", "Max", "Mod"),
        ("Neg", "Abs", "Floor", "Round", "Sqrt", "Identity", "Ceil", "Relu"),
        ("Equal", "Less", "Greater", "LessOrEqual"),
        ("And", "Or", "Xor"),
    )
    for family in families:
        if node.op_type in family:
            node.op_type = str(random.choice(family))


def drop_operand(graph: onnx.GraphProto, random: np.random.Generator) -> None:
    """Leave out a node's last operand, or a limit."""
    node = graph.node[int(random.integers(len(graph.node)))]
    if len(node.input) > 1 and random.random() < 0.5:
        node.input[int(random.integers(1, len(node.input)))] = ""
    elif len(node.input) > 1:
        del node.input[-1]


def change_attribute(graph: onnx.GraphProto, random: np.random.Generator) -> None:
    """Change a number among the attributes."""
    having = [node for node in graph.node if node.attribute]
    if not having:
        return
    attribute = random.choice(np.asarray(having, object)).attribute[0]
    if attribute.ints:
        attribute.ints[int(random.integers(len(attribute.ints)))] += int(random.choice([-1, 1]))
    else:
        attribute.i = int(random.choice([attribute.i + 1, attribute.i - 1, -attribute.i]))
