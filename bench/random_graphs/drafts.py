"""A graph that grows beside its proof, and what its constants are drawn from."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from batchproof.training.prove.box import Box, of_constant
from batchproof.training.prove.proof import Proof

FLOATS = (
    *(0.0, -0.0, np.nan, np.inf, -np.inf, 5e-324, -5e-324, 2.0**-1022, 1e-310, 1.7976931348623157e308),
    *(-1.7976931348623157e308, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, 1 / 3, -0.3, 0.1, 7.0, -8.0, 3.4028235e38, 1e39, 1e-46),
    *(2.0**53, 2.0**53 - 1, 2.0**53 + 2, -(2.0**53), 2.0**52 + 0.5, 2.0**63, -(2.0**63), 2.0**31, -(2.0**31), 2.0**62),
    *(2.0**31 - 0.5, -(2.0**31) - 0.5, 2.0**24 + 1, 1e300, -1e300, 1e-300, 4096.0, 1.0 + 2.0**-52, 1e16),
)
INTEGERS = (
    *(0, 1, -1, 2, 3, -2, 5, 7, 64, 2**63 - 1, 2**63 - 2, -(2**63), -(2**63) + 1, 2**53, 2**53 + 1, 2**53 - 1),
    *(-(2**53), -(2**53) - 1, 2**31, 2**31 - 1, -(2**31), -(2**31) - 1, 2**32, 2**62, -(2**62), 2**24 + 1, 2**24),
)
TYPES = {
    "float64": TensorProto.DOUBLE,
    "float32": TensorProto.FLOAT,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "bool": TensorProto.BOOL,
}
TAME = 0.7  # of the constants are small numbers rather than edges
Constant = np.ndarray | float | int


class Draft:
    """A graph that grows, with what the prover knows of it."""

    def __init__(self, random: np.random.Generator) -> None:
        """Start with one or two inputs."""
        self.random = random
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.refused = 0
        kinds = [("x", "float64"), ("i", "int64")]
        chosen = kinds if random.random() < 0.6 else [kinds[int(random.random() < 0.4)]]
        self.inputs = [
            helper.make_tensor_value_info(name, TYPES[kind], ["rows", int(random.integers(1, 5))])
            for name, kind in chosen
        ]
        self.proof = Proof(helper.make_graph([], "random", self.inputs, []))

    def constant(self, value: Constant, dtype: Any = None) -> str:
        """Store a constant and return its name."""
        stored = np.asarray(value, dtype)
        if self.random.random() < 0.1:
            return self.add("Constant", [], value=numpy_helper.from_array(stored))
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(stored, name))
        self.proof.boxes[name] = of_constant(stored, name)
        return name

    def add(self, op: str, operands: Sequence[str], **attributes: Any) -> str:
        """Append a node and return its output; raises ProofError and leaves the draft as it was where it is refused."""
        name = f"n{len(self.nodes)}"
        node = helper.make_node(op, list(operands), [name], name=name, **attributes)
        with np.errstate(all="ignore"):
            self.proof.step(node)
        self.nodes.append(node)
        return name

    def undo(self, count: int) -> None:
        """Take back the nodes from number `count` on."""
        for node in self.nodes[count:]:
            del self.proof.boxes[node.output[0]]
        del self.nodes[count:]

    def box(self, name: str) -> Box:
        """Return what the prover knows of a tensor."""
        return self.proof.boxes[name]

    def tensors(self, *kinds: str, rows: int | None = None) -> list[str]:
        """Return the tensors of rows of some types, the latest last; with `rows` only those with that row axis."""
        types = [np.dtype(kind) for kind in kinds]
        return [
            name
            for name, box in self.proof.boxes.items()
            if box.rows is not None and (not types or box.dtype in types) and (rows is None or box.rows == rows)
        ]

    def pick(self, *kinds: str, rows: int | None = None) -> str:
        """Return a tensor of rows, a late one rather than an early one; raises LookupError where there is none."""
        names = self.tensors(*kinds, rows=rows)
        if not names:
            raise LookupError
        return names[-1 - min(int(self.random.exponential(2.0)), len(names) - 1)]

    def model(self) -> onnx.ModelProto:
        """Return the graph as an ONNX file."""
        graph = helper.make_graph(self.nodes, "random", self.inputs, self.outputs, self.constants)
        version = int(self.random.choice([13, 14, 15, 16, 17, 17, 17]))
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=8)


def numbers(random: np.random.Generator, dtype: Any, shape: Sequence[int]) -> np.ndarray:
    """Draw constants of a type: small ones, and edges."""
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return np.asarray(random.random(shape) < 0.5)
    if kind.kind == "f":
        tame = random.choice(
            [random.normal(size=shape), random.integers(-8, 9, shape) / 4, random.integers(0, 9, shape)]
        )
        edge = random.choice(np.asarray(FLOATS), shape)
    else:
        tame = random.integers(-6, 12, shape)
        info = np.iinfo(kind)
        edge = random.choice(np.asarray([each for each in INTEGERS if info.min <= each <= info.max]), shape)
    wild = random.random(shape) if random.random() < 0.3 else np.full(shape, random.random())
    with np.errstate(all="ignore"):
        return np.where(wild < TAME, tame, edge).astype(kind)


def operand(draft: Draft, like: str) -> str:
    """Return a partner for an elementwise operation: another tensor of the shape, or a constant that broadcasts."""
    box, random = draft.box(like), draft.random
    if random.random() < 0.4:
        fitting = [
            name
            for name in draft.tensors(box.dtype.name)
            if draft.box(name).rows == box.rows and draft.box(name).low.ndim == box.low.ndim
        ]
        return str(random.choice(fitting))
    shape = [length if random.random() < 0.7 else 1 for length in box.low.shape]
    cut = int(random.integers(0, len(shape) + 1)) if random.random() < 0.6 else len(shape)
    return draft.constant(numbers(random, box.dtype, shape[cut:] if random.random() < 0.9 else shape))
