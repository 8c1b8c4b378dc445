"""What a file declares before its first node: operator sets, inputs, stored constants, and the types of tensors."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from batchproof.training.prove.box import Box, ProofError, of_input
from batchproof.training.prove.limits import MAX_AXES, MAX_ELEMENTS, MAX_INPUTS, MAX_NODES, shown

OPSETS = (13, 17)  # least and greatest: between them the operators' forms are the ones the rules read
LEAST_IR_VERSION = 4  # before it a stored constant was an input as well
DTYPES: Mapping[int, np.dtype[Any]] = {
    TensorProto.DOUBLE: np.dtype(np.float64),
    TensorProto.FLOAT: np.dtype(np.float32),
    TensorProto.INT64: np.dtype(np.int64),
    TensorProto.INT32: np.dtype(np.int32),
    TensorProto.BOOL: np.dtype(np.bool_),
}
DATA_FIELDS = ("raw_data", "float_data", "double_data", "int32_data", "int64_data", "uint64_data", "string_data")


def check_model(model: onnx.ModelProto) -> None:
    """Refuse everything except one plain graph of standard operators."""
    if len(model.graph.node) > MAX_NODES:
        raise ProofError("model", f"{len(model.graph.node)} nodes; at most {MAX_NODES} are supported")
    if not all(isinstance(text, str) for text in texts(model)):
        raise ProofError("model", "holds a name that is not UTF-8")
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    for entry in model.opset_import:
        if entry.domain not in ("", "ai.onnx") and any(node.domain == entry.domain for node in model.graph.node):
            raise ProofError("model", f"operators of the domain {shown(entry.domain)!r} are not supported")
    for version in versions:
        if not OPSETS[0] <= version <= OPSETS[1]:
            raise ProofError("model", f"operator set {version} is not supported; use {OPSETS[0]} to {OPSETS[1]}")
    if len(versions) != 1:
        raise ProofError(
            "model", f"names {len(versions)} versions of the standard operator set; it must name exactly one"
        )
    if model.ir_version < LEAST_IR_VERSION:
        raise ProofError(
            "model", f"IR version {model.ir_version} is not supported; use version {LEAST_IR_VERSION} or later"
        )
    if model.functions or model.training_info or model.graph.sparse_initializer:
        raise ProofError("model", "local functions, training graphs and sparse constants are not supported")


def texts(model: onnx.ModelProto) -> Iterator[str]:
    """Yield every text of a model that a proof reads; protobuf hands out bytes where one is not UTF-8."""
    graph = model.graph
    yield from (entry.domain for entry in model.opset_import)
    for value in (*graph.input, *graph.output, *graph.value_info):
        yield value.name
        yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)
    yield from (stored.name for stored in graph.initializer)
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        for attribute in node.attribute:
            yield from (attribute.name, attribute.ref_attr_name)


def constant_value(stored: TensorProto, name: str) -> np.ndarray:
    """Return a stored tensor; refuses data outside the file, and data that engines may read differently."""
    if stored.data_location == TensorProto.EXTERNAL:
        raise ProofError(name, "its data lies outside the file")
    if stored.data_type not in DTYPES:
        raise ProofError(
            name, f"a constant of {type_name(stored.data_type)} is not supported; use {type_names(DTYPES)}"
        )
    if len(stored.dims) > MAX_AXES or any(length < 1 for length in stored.dims) or stored.HasField("segment"):
        raise ProofError(name, f"a constant that is empty, in segments or of more than {MAX_AXES} axes")
    if sum(bool(len(getattr(stored, field))) for field in DATA_FIELDS) != 1:
        raise ProofError(name, "a constant must hold its data once")
    try:
        value = np.asarray(numpy_helper.to_array(stored))
    except (ValueError, TypeError, OverflowError) as error:
        raise ProofError(name, "a constant whose data does not fit its type and shape") from error
    if value.dtype != DTYPES[stored.data_type] or (value.dtype == np.bool_ and not plain_bools(stored)):
        raise ProofError(name, "a constant whose data does not fit its type and shape")
    return value


def plain_bools(stored: TensorProto) -> bool:
    """Whether a stored bool tensor holds only 0 and 1: engines differ in what another byte is."""
    return set(stored.raw_data) <= {0, 1} and set(stored.int32_data) <= {0, 1}


def input_boxes(inputs: Sequence[onnx.ValueInfoProto]) -> dict[str, Box]:
    """Describe the graph's inputs; refuses any other shapes than [rows, width], with one name for the rows of all."""
    if len(inputs) > MAX_INPUTS:
        raise ProofError("model", f"{len(inputs)} inputs; at most {MAX_INPUTS} are supported")
    boxes: dict[str, Box] = {}
    rows = set()
    for value in inputs:
        if value.name in boxes:
            raise ProofError(value.name, "is defined twice")
        boxes[value.name] = input_box(value)
        rows.add(value.type.tensor_type.shape.dim[0].dim_param)
    if len(rows) > 1 or (len(inputs) > 1 and "" in rows):
        raise ProofError(
            "model",
            "the row axis of all inputs must have the same name: otherwise they could have different numbers of rows",
        )
    return boxes


def input_box(value: onnx.ValueInfoProto) -> Box:
    """Describe a graph input."""
    tensor = value.type.tensor_type
    dims = tensor.shape.dim
    if not value.type.HasField("tensor_type") or len(dims) != 2 or dims[0].HasField("dim_value"):
        raise ProofError(value.name, "an input must have the shape [rows, width] with rows free and width fixed")
    if not 1 <= dims[1].dim_value <= MAX_ELEMENTS:
        raise ProofError(value.name, f"an input must have a fixed width, from 1 to {MAX_ELEMENTS}")
    if tensor.elem_type not in (TensorProto.DOUBLE, TensorProto.INT64):
        raise ProofError(
            value.name, f"an input of {type_name(tensor.elem_type)} is not supported; use float64 or int64"
        )
    return of_input(dims[1].dim_value, DTYPES[tensor.elem_type], value.name)


def check_declared(value: onnx.ValueInfoProto, box: Box) -> None:
    """Refuse a declared type or shape that is not the derived one: engines plan by what is declared."""
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or DTYPES.get(tensor.elem_type) != box.dtype:
        raise ProofError(value.name, f"is declared as {type_name(tensor.elem_type)}, but its type is {box.dtype}")
    if not tensor.HasField("shape"):
        return
    wanted: list[int | None] = [None if place == box.rows else length for place, length in enumerate(box.low.shape)]
    stated = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in tensor.shape.dim]
    fits = len(stated) == len(wanted) and all(
        length is None or (isinstance(length, str) if known is None else length == known)
        for length, known in zip(stated, wanted, strict=True)
    )
    if not fits:
        raise ProofError(value.name, f"is declared with shape {shown(str(stated))}, but its shape is {wanted}")


def type_name(data_type: int) -> str:
    """Return an element type as people write it."""
    if data_type in DTYPES:
        return DTYPES[data_type].name
    names = {number: name for name, number in TensorProto.DataType.items()}
    return str(names.get(data_type, f"type {data_type}")).lower()


def type_names(types: Mapping[int, np.dtype[Any]]) -> str:
    """Return a list of element types."""
    return ", ".join(dtype.name for dtype in types.values())
