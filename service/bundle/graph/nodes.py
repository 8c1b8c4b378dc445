"""The graph of model.onnx as plain values: its nodes in order, its constants, and the types of its ends."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from batchproof.service.bundle.graph import fields as schema
from batchproof.service.bundle.graph import tensors
from batchproof.service.bundle.graph.protobuf import Message
from batchproof.service.bundle.graph.tensors import Constant

Attribute: TypeAlias = int | float | bytes | tuple[int, ...] | Constant | None  # None: of a kind that no rule reads

MAX_NODES = 10_000  # the engine takes seconds for so many

# The number that an attribute names its type by, and the field that holds a value of it.
ATTRIBUTE_FIELDS = {1: "f", 2: "i", 3: "s", 4: "t", 6: "floats", 7: "ints", 8: "strings"}


class Node(NamedTuple):
    """One operation."""

    operator: str
    name: str
    inputs: tuple[str, ...]  # an empty name means an omitted input
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]

    @property
    def label(self) -> str:
        """Return how refusals name the node."""
        name = self.name or next(iter(self.outputs), "")
        return f"the node {name!r:.80} ({self.operator:.40})"


class End(NamedTuple):
    """An input or output of the graph; a size of None is an axis of any length."""

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None  # None: no shape is given

    def __str__(self) -> str:
        """Return it as refusals show it: `numeric [rows, 4] float64`."""
        if self.shape is None:
            return f"{_plain(self.name)} of no type"
        sizes = ", ".join("rows" if size is None else str(size) for size in self.shape)
        return f"{_plain(self.name)} [{sizes}] {self.dtype}"


@dataclass(frozen=True)
class Graph:
    """A graph whose every node and tensor was checked by itself."""

    nodes: tuple[Node, ...]
    constants: Mapping[str, Constant]
    inputs: tuple[End, ...]
    outputs: tuple[End, ...]


def read(graph: Message) -> Graph:
    """Read the message of a graph; raises ValueError."""
    if len(graph.bytes("node")) > MAX_NODES:
        raise ValueError(f"it has {len(graph.bytes('node'))} nodes; a bundle's has at most {MAX_NODES}")
    for value in graph.messages("value_info", "value", schema.VALUE_INFO):
        _end(value)
    constants: dict[str, Constant] = {}
    for tensor in graph.messages("initializer", "tensor", schema.TENSOR):
        name = tensor.text("name")
        if name in constants:
            raise ValueError(f"there are two weights {name!r:.80}")
        constants[name] = tensors.read(tensor)
    return Graph(
        tuple(_node(node) for node in graph.messages("node", "node", schema.NODE)),
        constants,
        tuple(_end(end) for end in graph.messages("input", "graph input", schema.VALUE_INFO)),
        tuple(_end(end) for end in graph.messages("output", "graph output", schema.VALUE_INFO)),
    )


def _node(message: Message) -> Node:
    attributes: dict[str, Attribute] = {}
    name = message.text("name")
    for attribute in message.messages("attribute", "node attribute", schema.ATTRIBUTE):
        key = attribute.text("name")
        label = f"the attribute {key!r:.80} of the node {name!r:.80}"
        if key in attributes:
            raise ValueError(f"{label} is there twice")
        attributes[key] = _attribute(attribute, label)
    domain = message.text("domain")
    if domain not in schema.DEFAULT_DOMAIN:
        raise ValueError(f"the node {name!r:.80} is of the domain {domain!r:.80}, not a standard one")
    return Node(message.text("op_type"), name, message.texts("input"), message.texts("output"), attributes)


def _attribute(message: Message, label: str) -> Attribute:
    held = [field for field in ATTRIBUTE_FIELDS.values() if field in message]
    field = ATTRIBUTE_FIELDS.get(message.number("type"))
    if field is None or any(name != field for name in held):
        raise ValueError(f"{label} has the type {message.number('type')}, but values in {held or 'no field'}")
    for raw in (*message.bytes("f"), *message.bytes("floats")):
        tensors.check_finite(tensors.numbers_of(raw, "float32", label), label)
    held_tensors = [tensors.read(tensor) for tensor in message.messages("t", "tensor", schema.TENSOR)]
    if field == "t":
        return next(iter(held_tensors), None)
    if field == "i":
        return message.number("i")
    if field == "ints":
        return tuple(message.numbers("ints"))
    if field == "f":
        return float(tensors.numbers_of(message.bytes("f")[0], "float32", label)[0]) if "f" in message else 0.0
    return bytes(message.bytes("s")[0][: schema.MAX_STRING_BYTES]) if held == ["s"] else None


def _end(value: Message) -> End:
    name = value.text("name")
    for kind in value.messages("type", "type", schema.TYPE):
        for tensor in kind.messages("tensor_type", "tensor type", schema.TENSOR_TYPE):
            number = tensor.number("elem_type")
            dtype = schema.DTYPES.get(number, f"data type {number}")
            shapes = list(tensor.messages("shape", "shape", schema.SHAPE))
            return End(name, dtype, _sizes(shapes[0]) if shapes else ())
    return End(name, "", None)


def _sizes(shape: Message) -> tuple[int | None, ...]:
    dimensions = shape.messages("dim", "dimension", schema.DIMENSION)
    return tuple(next(iter(dimension.numbers("dim_value")), None) for dimension in dimensions)


def _plain(name: str) -> str:
    """Return a name of the file for a sentence: cut, and escaped where it holds what a terminal obeys."""
    return name[:80] if name.isprintable() else repr(name[:80])
