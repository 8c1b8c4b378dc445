"""model.onnx looked through before the engine sees it: nothing hidden in it, and it is what the signature says.

The engine would run custom code for a foreign domain, and open files for external data; neither gets that far.
"""

import math
from collections.abc import Iterable

import numpy as np

from batchproof.service.bundle.graph import fields as schema
from batchproof.service.bundle.graph.protobuf import Message
from batchproof.service.bundle.manifest import Manifest
from batchproof.service.bundle.signature import Tensor
from batchproof.service.errors import BundleError

IR_VERSION = 8
OPSET = 17
DEFAULT_DOMAIN = frozenset({"", "ai.onnx"})
# The same row must give the same bits twice.
RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)


def check(model: bytes, manifest: Manifest) -> None:
    """Refuse a graph that holds what a bundle's may not, or whose ends are not the manifest's; raises BundleError."""
    try:
        graph = _graph(Message(memoryview(model), "model", schema.MODEL))
        for raw in graph.bytes("initializer"):
            _check_tensor(raw)
        for raw in graph.bytes("node"):
            _check_node(Message(raw, "node", schema.NODE))
        _check_ends("input", graph.bytes("input"), manifest.signature.tensors)
        _check_ends("output", graph.bytes("output"), manifest.outputs)
    except ValueError as error:
        raise BundleError(f"model.onnx: {error}") from error


def _graph(model: Message) -> Message:
    opsets = [Message(raw, "opset import", schema.OPSET) for raw in model.bytes("opset_import")]
    imported = [(opset.text("domain"), opset.number("version")) for opset in opsets]
    if len(imported) != 1 or imported[0][0] not in DEFAULT_DOMAIN or imported[0][1] != OPSET:
        raise ValueError(
            f"it imports the operator sets {imported!s:.200}; a bundle uses version {OPSET} of the default one"
        )
    if model.number("ir_version") != IR_VERSION:
        raise ValueError(f"it has IR version {model.number('ir_version')}; a bundle has {IR_VERSION}")
    if not (graphs := model.bytes("graph")):
        raise ValueError("it has no graph")
    return Message(graphs[0], "graph", schema.GRAPH)


def _check_node(node: Message) -> None:
    operator, domain, what = node.text("op_type"), node.text("domain"), f"the node {node.text('name')!r:.80}"
    if domain not in DEFAULT_DOMAIN:
        raise ValueError(f"{what} is of the domain {domain!r:.80}, not a standard one")
    if operator in RANDOM:
        raise ValueError(f"{what} is a {operator}: a row would not get the same answer twice")
    for raw in node.bytes("attribute"):
        attribute = Message(raw, "node attribute", schema.ATTRIBUTE)
        for tensor in attribute.bytes("t"):
            _check_tensor(tensor)
        for number in (*attribute.bytes("f"), *attribute.bytes("floats")):
            _check_finite(number, "<f4", f"the attribute {attribute.text('name')!r:.80} of {what}")


def _check_tensor(raw: memoryview) -> None:
    tensor = Message(raw, "tensor", schema.TENSOR)
    what = f"the weight {tensor.text('name')!r:.80}"
    dtype = schema.DTYPES.get(tensor.number("data_type"))
    if dtype is None:
        raise ValueError(f"{what} has data type {tensor.number('data_type')}, which a bundle may not use")
    dims = tensor.numbers("dims")
    if any(size < 0 for size in dims):
        raise ValueError(f"{what} has a negative dimension")
    little = np.dtype(dtype).newbyteorder("<").str
    for data in tensor.bytes("raw_data"):
        if len(data) != math.prod(dims) * np.dtype(dtype).itemsize:
            raise ValueError(f"{what} has {len(data)} bytes of data, which do not fill {dims!s:.80} of {dtype}")
        _check_finite(data, little, what)
    for field, stored in (("float_data", "<f4"), ("double_data", "<f8")):
        for data in tensor.bytes(field):
            _check_finite(data, stored, what)


def _check_finite(data: memoryview, dtype: str, what: str) -> None:
    if len(data) % np.dtype(dtype).itemsize:
        raise ValueError(f"{what} ends within a number")
    if np.dtype(dtype).kind == "f" and not np.isfinite(np.frombuffer(data, dtype)).all():
        raise ValueError(f"{what} holds NaN or infinity")


def _check_ends(side: str, found: Iterable[memoryview], wanted: Iterable[Tensor]) -> None:
    ends = sorted(_end(Message(raw, f"graph {side}", schema.VALUE_INFO)) for raw in found)
    if ends != (signed := sorted(f"{end.name} [rows, {end.width}] {end.dtype}" for end in wanted)):
        raise ValueError(f"the graph's {side}s are {'; '.join(ends)}, but bundle.json asks for {'; '.join(signed)}")


def _end(value: Message) -> str:
    """Return the end as text: `numeric [rows, 4] float64`; an axis of any length is `rows`."""
    name = value.text("name")[:80]
    for raw in value.bytes("type"):
        for tensor_raw in Message(raw, "type", schema.TYPE).bytes("tensor_type"):
            tensor = Message(tensor_raw, "tensor type", schema.TENSOR_TYPE)
            dtype = schema.DTYPES.get(tensor.number("elem_type"), f"data type {tensor.number('elem_type')}")
            return f"{name} [{', '.join(_dimensions(tensor))}] {dtype}"
    return f"{name} of no type"


def _dimensions(tensor: Message) -> list[str]:
    dimensions = []
    for shape in tensor.bytes("shape"):
        for raw in Message(shape, "shape", schema.SHAPE).bytes("dim"):
            dimension = Message(raw, "dimension", schema.DIMENSION)
            sizes = dimension.numbers("dim_value")
            dimensions.append(str(sizes[0]) if sizes else "rows")
    return dimensions
