"""Evaluate an ONNX graph of the prover's operators in NumPy, every sum in an order of its own, every tensor kept."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Operands = Sequence[np.ndarray]
Attributes = Mapping[str, Any]


def evaluate(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray], random: np.random.Generator) -> dict[str, Any]:
    """Return {tensor: array} of every tensor of a graph on `feeds`."""
    known: dict[str, Any] = {stored.name: numpy_helper.to_array(stored) for stored in model.graph.initializer}
    known |= {"": None, **feeds}
    with np.errstate(all="ignore"):
        for node in model.graph.node:
            operands = [known[name] for name in node.input]
            attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
            if node.op_type in SUMS:
                known[node.output[0]] = any_order(SUMS[node.op_type](operands, attributes), random)
            else:
                known[node.output[0]] = np.asarray(OTHERS[node.op_type](operands, attributes))
    return known


def any_order(terms: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Add up terms [count, …] in a random order, in two groups."""
    order = random.permutation(len(terms))
    cut = int(random.integers(0, len(terms)))
    groups = [order[:cut], order[cut:]]
    total = np.zeros(terms.shape[1:])
    for group in groups:
        part = np.zeros(terms.shape[1:])
        for place in group:
            part = part + terms[place]
        total = total + part
    return total


def gemm(operands: Operands, attributes: Attributes) -> np.ndarray:
    """Return the terms of a Gemm, its bias among them."""
    a = operands[0].T if attributes.get("transA") else operands[0]
    b = operands[1].T if attributes.get("transB") else operands[1]
    products = np.stack([np.outer(a[:, k], b[k]) for k in range(a.shape[1])])
    return np.concatenate([products, np.broadcast_to(operands[2], products.shape[1:])[None]])


def matmul(operands: Operands, _: Attributes) -> np.ndarray:
    """Return the terms of a MatMul."""
    a, b = operands
    return np.stack([a[..., :, k, None] * b[..., k, None, :] for k in range(a.shape[-1])])


def reduce_sum(operands: Operands, attributes: Attributes) -> np.ndarray:
    """Return the terms of a ReduceSum along one or more axes."""
    data, axes = operands[0], sorted(int(axis) % operands[0].ndim for axis in operands[1])
    terms = np.moveaxis(data, axes, range(len(axes)))
    terms = terms.reshape(-1, *terms.shape[len(axes) :])
    return np.expand_dims(terms, [axis + 1 for axis in axes]) if attributes.get("keepdims", 1) else terms


def reshape(operands: Operands, _: Attributes) -> np.ndarray:
    """Return the tensor in another shape, 0 meaning the length that is there."""
    data, shape = operands
    return data.reshape([data.shape[place] if length == 0 else length for place, length in enumerate(shape)])


def cut(operands: Operands, _: Attributes) -> np.ndarray:
    """Return a slice."""
    data, starts, ends, axes, *steps = operands
    cuts = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps[0] if steps else [1] * len(axes), strict=True):
        cuts[axis] = slice(start, end, step)
    return np.asarray(data[tuple(cuts)])


def limited(operands: Operands, _: Attributes) -> np.ndarray:
    """Return a Clip."""
    data, low, high = (*operands, None, None)[:3]
    raised = data if low is None else np.maximum(data, low)
    return raised if high is None else np.minimum(raised, high)


def together(function: np.ufunc) -> Callable[[Operands, Attributes], np.ndarray]:
    """Return Min or Max over any number of tensors."""

    def fold(operands: Operands, _: Attributes) -> np.ndarray:
        result = operands[0]
        for each in operands[1:]:
            result = function(result, each)
        return result

    return fold


def elementwise(function: Callable[..., Any]) -> Callable[[Operands, Attributes], Any]:
    """Return an operation without attributes."""
    return lambda operands, _: function(*operands)


SUMS: dict[str, Callable[[Operands, Attributes], np.ndarray]] = {
    "Gemm": gemm,
    "MatMul": matmul,
    "ReduceSum": reduce_sum,
}
OTHERS: dict[str, Callable[[Operands, Attributes], Any]] = {
    "Add": elementwise(np.add),
    "Sub": elementwise(np.subtract),
    "Mul": elementwise(np.multiply),
    "Div": elementwise(np.divide),
    "Neg": elementwise(np.negative),
    "Abs": elementwise(np.abs),
    "Sqrt": elementwise(np.sqrt),
    "Floor": elementwise(np.floor),
    "Round": elementwise(np.rint),
    "IsNaN": elementwise(np.isnan),
    "Identity": elementwise(np.copy),
    "Where": elementwise(np.where),
    "Equal": elementwise(np.equal),
    "Less": elementwise(np.less),
    "LessOrEqual": elementwise(np.less_equal),
    "Greater": elementwise(np.greater),
    "GreaterOrEqual": elementwise(np.greater_equal),
    "And": elementwise(np.logical_and),
    "Or": elementwise(np.logical_or),
    "Not": elementwise(np.logical_not),
    "Min": together(np.minimum),
    "Max": together(np.maximum),
    "Clip": limited,
    "Cast": lambda operands, known: operands[0].astype(helper.tensor_dtype_to_np_dtype(known["to"])),
    "Constant": lambda _, known: numpy_helper.to_array(known["value"]),
    "Gather": lambda operands, known: np.take(*operands, axis=known.get("axis", 0)),
    "Concat": lambda operands, known: np.concatenate(operands, axis=known["axis"]),
    "Reshape": reshape,
    "Expand": lambda operands, _: operands[0] * np.ones(operands[1], operands[0].dtype),
    "Unsqueeze": lambda operands, _: np.expand_dims(operands[0], tuple(operands[1])),
    "Squeeze": lambda operands, _: np.squeeze(operands[0], tuple(operands[1])),
    "Transpose": lambda operands, known: np.transpose(operands[0], known.get("perm")),
    "Slice": cut,
    "ReduceMax": lambda operands, known: operands[0].max(
        axis=tuple(known["axes"]), keepdims=bool(known.get("keepdims", 1))
    ),
}
