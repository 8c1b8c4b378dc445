"""Bounds on the cost of one run of a graph, derived from the file: the sizes of all tensors, and the operations.

The operators that a tabular network is written with are modelled, in the forms that their attributes may have. Sizes
are computed for one number of rows; they grow with it, so a run of fewer rows costs no more. A graph with any other
operator has no bound here. It is not refused, but first loaded in a child process, where its cost is measured.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from batchproof.service.bundle.graph.fields import DTYPES
from batchproof.service.bundle.graph.nodes import Graph, Node
from batchproof.service.bundle.graph.values import Known, result_type

Shape: TypeAlias = tuple[int, ...]
ITEM_BYTES = {name: np.dtype(name).itemsize for name in DTYPES.values()}


class UnmodelledError(Exception):
    """A node that has no bound here; the text says which."""


class Sized(NamedTuple):
    """A tensor whose size is known."""

    dtype: str
    shape: Shape
    whole: np.ndarray | None = None  # its values, of a constant of whole numbers


class Cost(NamedTuple):
    """Upper bounds of one run."""

    tensor_bytes: int  # of all results together: the engine keeps some of them at a time
    largest_bytes: int  # of one result
    operations: int  # multiplications, additions, or what costs as much


def cost(graph: Graph, rows: int) -> Cost:
    """Return the cost of one run of `rows` rows; raises UnmodelledError where the file does not bound it."""
    sized = {end.name: Sized(end.dtype, _end_shape(end.shape, rows)) for end in graph.inputs}
    sized |= {name: Sized(stored.dtype, stored.shape, stored.whole) for name, stored in graph.constants.items()}
    tensor_bytes = largest_bytes = operations = 0
    for node in graph.nodes:
        result, work = _result(node, [sized[name] if name else None for name in node.inputs])
        (name,) = node.outputs
        sized[name] = result
        result_bytes = math.prod(result.shape) * ITEM_BYTES[result.dtype]
        tensor_bytes += result_bytes
        largest_bytes = max(largest_bytes, result_bytes)
        operations += work
    return Cost(tensor_bytes, largest_bytes, operations)


def _end_shape(shape: tuple[int | None, ...] | None, rows: int) -> Shape:
    return tuple(rows if size is None else size for size in shape or ())


def _result(node: Node, inputs: Sequence[Sized | None]) -> tuple[Sized, int]:
    rule = RULES.get(node.operator)
    given = [tensor for tensor in inputs if tensor is not None]
    unknown = node.attributes.keys() - rule.attributes.keys() if rule else {""}
    kinds = {} if rule is None else {name: rule.attributes[name] for name in node.attributes if name not in unknown}
    is_known = not unknown and all(isinstance(node.attributes[name], kind) for name, kind in kinds.items())
    if rule is None or not is_known or len(node.outputs) != 1 or not rule.least <= len(given) <= rule.most:
        raise UnmodelledError(f"{node.label} is not of a form that has a bound")
    dtype = result_type(node, [Known(tensor.dtype) for tensor in given])
    if dtype not in ITEM_BYTES or (node.operator != "Clip" and len(given) != len(inputs)):
        raise UnmodelledError(f"{node.label} is not of a form that has a bound")
    try:
        shape, work = rule.shape(given, node.attributes)
    except (IndexError, ValueError, ZeroDivisionError) as error:  # shapes that do not fit: the engine will say how
        raise UnmodelledError(f"the shapes of {node.label} do not fit each other") from error
    return Sized(dtype, shape), work


def _same(inputs: Sequence[Sized], _: Mapping[str, object]) -> tuple[Shape, int]:
    return inputs[0].shape, 8 * math.prod(inputs[0].shape)


def _broadcast(inputs: Sequence[Sized], _: Mapping[str, object]) -> tuple[Shape, int]:
    shape = np.broadcast_shapes(*(tensor.shape for tensor in inputs))
    return shape, math.prod(shape)


def _clip(inputs: Sequence[Sized], _: Mapping[str, object]) -> tuple[Shape, int]:
    if any(math.prod(bound.shape) != 1 for bound in inputs[1:]):
        raise ValueError("a bound is one number")
    return inputs[0].shape, math.prod(inputs[0].shape)


def _gather(inputs: Sequence[Sized], attributes: Mapping[str, object]) -> tuple[Shape, int]:
    data, indices = inputs
    axis = _axis(attributes.get("axis", 0), len(data.shape))
    shape = (*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :])
    return shape, math.prod(shape)


def _concat(inputs: Sequence[Sized], attributes: Mapping[str, object]) -> tuple[Shape, int]:
    axis = _axis(attributes["axis"], len(inputs[0].shape)) if "axis" in attributes else _refuse()
    rest = {(*tensor.shape[:axis], *tensor.shape[axis + 1 :]) for tensor in inputs}
    if len(rest) != 1:
        raise ValueError("the other axes differ")
    shape = (*inputs[0].shape[:axis], sum(tensor.shape[axis] for tensor in inputs), *inputs[0].shape[axis + 1 :])
    return shape, math.prod(shape)


def _gemm(inputs: Sequence[Sized], attributes: Mapping[str, object]) -> tuple[Shape, int]:
    (m, k), (k2, n) = (
        tensor.shape[::-1] if attributes.get(name, 0) else tensor.shape
        for tensor, name in zip(inputs, ("transA", "transB"), strict=False)
    )
    if k != k2 or np.broadcast_shapes((m, n), *(tensor.shape for tensor in inputs[2:])) != (m, n):
        raise ValueError("the matrices do not fit")
    return (m, n), m * n * (k + 1)


def _matmul(inputs: Sequence[Sized], _: Mapping[str, object]) -> tuple[Shape, int]:
    (*batch_a, m, k), (*batch_b, k2, n) = (tensor.shape for tensor in inputs)
    if k != k2:
        raise ValueError("the matrices do not fit")
    shape = (*np.broadcast_shapes(tuple(batch_a), tuple(batch_b)), m, n)
    return shape, math.prod(shape) * k


def _reduce(inputs: Sequence[Sized], attributes: Mapping[str, object]) -> tuple[Shape, int]:
    data = inputs[0]
    every = tuple(range(len(data.shape)))
    axes = attributes.get("axes", every) if len(inputs) == 1 else _whole(inputs[1])
    if not isinstance(axes, tuple) or (every and not axes):
        raise ValueError("every axis, or none, by another attribute")
    dropped = {_axis(axis, len(data.shape)) for axis in axes}
    if any(not data.shape[axis] for axis in dropped):
        raise ValueError("nothing to reduce")
    keeps = attributes.get("keepdims", 1)
    sizes = [1 if place in dropped else size for place, size in enumerate(data.shape) if keeps or place not in dropped]
    return tuple(sizes), math.prod(data.shape)


def _reshape(inputs: Sequence[Sized], _: Mapping[str, object]) -> tuple[Shape, int]:
    data, wanted = inputs[0].shape, _whole(inputs[1])
    sizes = [data[place] if size == 0 else size for place, size in enumerate(wanted)]
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)], rest = divmod(math.prod(data), -math.prod(sizes))
        if rest:
            raise ValueError("the sizes do not divide")
    if any(size < 0 for size in sizes) or math.prod(sizes) != math.prod(data):
        raise ValueError("the sizes do not fit")
    return tuple(sizes), math.prod(data)


def _unsqueeze(inputs: Sequence[Sized], _: Mapping[str, object]) -> tuple[Shape, int]:
    data, axes = inputs[0].shape, _whole(inputs[1])
    places = {_axis(axis, len(data) + len(axes)) for axis in axes}
    if len(places) != len(axes):
        raise ValueError("an axis twice")
    rest = iter(data)
    return tuple(1 if place in places else next(rest) for place in range(len(data) + len(axes))), math.prod(data)


def _axis(axis: object, axes: int) -> int:
    if not isinstance(axis, int) or not -axes <= axis < axes:
        raise ValueError("there is no such axis")
    return axis % axes


def _whole(tensor: Sized) -> tuple[int, ...]:
    if tensor.whole is None or tensor.dtype != "int64" or len(tensor.shape) != 1 or len(tensor.whole) > 8:
        raise ValueError("not a constant")
    return tuple(tensor.whole.tolist())


def _refuse() -> int:
    raise ValueError("an attribute is missing")


class Rule(NamedTuple):
    """How the result of an operator is sized, and which of its forms that holds for."""

    shape: Callable[[Sequence[Sized], Mapping[str, object]], tuple[Shape, int]]
    least: int  # inputs
    most: int
    attributes: Mapping[str, type] = {}


_MANY = 10_000
_REDUCE = Rule(_reduce, 1, 1, {"axes": tuple, "keepdims": int})
RULES: Mapping[str, Rule] = {
    **dict.fromkeys(
        "Abs Ceil Cos Erf Exp Floor Identity IsNaN Log Neg Not Reciprocal Relu Round Sigmoid Sign Sin Sqrt Tanh".split(),  # noqa: SIM905
        Rule(_same, 1, 1),
    ),
    **dict.fromkeys(
        "Add And Div Equal Greater GreaterOrEqual Less LessOrEqual Mul Or Sub Xor".split(),  # noqa: SIM905
        Rule(_broadcast, 2, 2),
    ),
    **dict.fromkeys(("Max", "Min"), Rule(_broadcast, 1, 16)),
    **dict.fromkeys(("ReduceMax", "ReduceMin"), _REDUCE),
    "ReduceSum": Rule(_reduce, 2, 2, {"keepdims": int}),
    "Cast": Rule(_same, 1, 1, {"to": int}),
    "Clip": Rule(_clip, 1, 3),
    "Concat": Rule(_concat, 1, _MANY, {"axis": int}),
    "Gather": Rule(_gather, 2, 2, {"axis": int}),
    "Gemm": Rule(_gemm, 2, 3, {"transA": int, "transB": int, "alpha": float, "beta": float}),
    "MatMul": Rule(_matmul, 2, 2),
    "Reshape": Rule(_reshape, 2, 2),
    "Softmax": Rule(_same, 1, 1, {"axis": int}),
    "Unsqueeze": Rule(_unsqueeze, 2, 2),
    "Where": Rule(_broadcast, 3, 3),
}
