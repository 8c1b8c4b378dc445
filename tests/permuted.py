"""A plain NumPy evaluation of an ONNX graph whose sums are added up one term at a time, in an order drawn anew."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

BINARY = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Min": np.minimum,
    "Max": np.maximum,
    "Equal": np.equal,
    "Greater": np.greater,
    "Or": np.logical_or,
}
UNARY = {
    "Sqrt": np.sqrt,
    "Abs": np.abs,
    "Floor": np.floor,
    "Round": np.rint,
    "IsNaN": np.isnan,
    "Identity": np.positive,
}


def evaluate(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray], random: np.random.Generator) -> dict[str, Any]:
    """Return {output: array} of a graph on `feeds`."""
    known = {stored.name: numpy_helper.to_array(stored) for stored in model.graph.initializer} | dict(feeds)
    with np.errstate(all="ignore"):
        for node in model.graph.node:
            operands = [known[name] for name in node.input]
            attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
            known[node.output[0]] = result(node.op_type, operands, attributes, random)
    return {value.name: known[value.name] for value in model.graph.output}


def result(op: str, operands: list[np.ndarray], attributes: Mapping[str, Any], random: np.random.Generator) -> Any:
    """Evaluate one node."""
    if op in BINARY:
        return BINARY[op](*operands)
    if op in UNARY:
        return operands[0].copy() if op == "Identity" else UNARY[op](operands[0])
    if op in SUMS:
        return permuted_sum(SUMS[op](operands, attributes), random)
    return OTHERS[op](operands, attributes)


def product_terms(a: np.ndarray, b: np.ndarray) -> list[np.ndarray]:
    """Return the products whose sum is a [.., m, k] times b [.., k, n], each [.., m, n]."""
    return [a[..., :, k, None] * b[..., k, None, :] for k in range(a.shape[-1])]


def gemm_terms(operands: list[np.ndarray], known: Mapping[str, Any]) -> list[np.ndarray]:
    """Return the products of a Gemm and its bias."""
    a, b = (part.T if known.get(name) else part for part, name in zip(operands[:2], ("transA", "transB"), strict=True))
    products = product_terms(a, b)
    return [*products, np.broadcast_to(operands[2], products[0].shape)]


def permuted_sum(terms: list[np.ndarray], random: np.random.Generator) -> np.ndarray:
    """Add terms up in a random order, partly in a random number of groups."""
    order = random.permutation(len(terms))
    groups = np.array_split(order, random.integers(1, 5))
    partial = []
    for group in groups:
        total = np.zeros(terms[0].shape)
        for k in group:
            total = total + terms[k]
        partial.append(total)
    return sum(partial[1:], partial[0])


SUMS: dict[str, Callable[[list[np.ndarray], Mapping[str, Any]], list[np.ndarray]]] = {
    "Gemm": gemm_terms,
    "MatMul": lambda operands, _: product_terms(*operands),
    "ReduceSum": lambda operands, _: [part[:, None] for part in np.moveaxis(operands[0], 1, 0)],
}
OTHERS: dict[str, Callable[[list[np.ndarray], Mapping[str, Any]], Any]] = {
    "Where": lambda operands, _: np.where(*operands),
    "Clip": lambda operands, _: np.clip(*operands, *[None] * (3 - len(operands))),
    "Cast": lambda operands, known: operands[0].astype(helper.tensor_dtype_to_np_dtype(known["to"])),
    "Gather": lambda operands, known: np.take(*operands, axis=known.get("axis", 0)),
    "Concat": lambda operands, known: np.concatenate(operands, axis=known["axis"]),
    "ReduceMax": lambda operands, known: operands[0].max(axis=tuple(known["axes"]), keepdims=bool(known["keepdims"])),
    "Reshape": lambda operands, _: operands[0].reshape(operands[1]),
    "Unsqueeze": lambda operands, _: np.expand_dims(operands[0], tuple(operands[1])),
}
