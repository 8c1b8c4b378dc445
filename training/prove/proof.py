"""Walk a graph from its inputs to its outputs, each operator by the rule of its class, and write the certificate."""

import hashlib
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from batchproof.training.prove import casts, elementwise, movement, reductions
from batchproof.training.prove.box import Box, ProofError, of_constant, of_input
from batchproof.training.prove.certificate import certificate
from batchproof.training.prove.node import Node
from batchproof.training.prove.outputs import check_outputs
from batchproof.training.prove.reductions import Obligation

OPSETS = (13, 17)  # least and greatest: between them the operators' forms are the ones the rules read

ELEMENTWISE = {**elementwise.RULES, "Cast": casts.cast}
CLASSES = {
    **dict.fromkeys(ELEMENTWISE, "elementwise"),
    **dict.fromkeys(movement.RULES, "movement"),
    "Constant": "movement",
    **dict.fromkeys(reductions.RULES, "order_free"),
}
ATTRIBUTES = {
    "Cast": {"to"},
    "Concat": {"axis"},
    "Constant": {"value"},
    "Gather": {"axis"},
    "Gemm": {"alpha", "beta", "transA", "transB"},
    "ReduceMax": {"axes", "keepdims"},
    "ReduceSum": {"keepdims", "noop_with_empty_axes"},
    "Reshape": {"allowzero"},
    "Transpose": {"perm"},
}


def prove(model: bytes) -> dict[str, Any]:
    """Return the certificate (JSON-able) of an ONNX file; raises ProofError at the first node that breaks the argument."""
    parsed = onnx.load_model_from_string(model)
    check_model(parsed)
    proof = Proof(parsed.graph)
    with np.errstate(all="ignore"):
        for node in parsed.graph.node:
            proof.step(node)
    check_outputs(parsed.graph, proof.boxes)
    return certificate(hashlib.sha256(model).hexdigest(), proof.counts, proof.obligations, proof.lookups)


class Proof:
    """What is known so far of every tensor."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        """Describe the inputs and the stored constants."""
        self.boxes: dict[str, Box] = {"": of_constant(np.zeros(0), "")}
        self.counts: Counter[tuple[str, str]] = Counter()  # (class, operator)
        self.obligations: list[Obligation] = []
        self.lookups: list[dict[str, Any]] = []
        for stored in graph.initializer:
            self.define(stored.name, of_constant(constant_value(stored), stored.name))
        for value in graph.input:
            self.define(value.name, input_box(value))

    def step(self, node: onnx.NodeProto) -> None:
        """Derive what is known of a node's output."""
        name = node.name or node.op_type
        attributes = checked_attributes(name, node)
        boxes = [self.known(name, source) for source in node.input]
        if len(node.output) != 1:
            raise ProofError(name, "a node with other than one output")
        self.counts[CLASSES[node.op_type], node.op_type] += 1
        try:
            box = self.derive(node.op_type, name, boxes, attributes)
        except (ValueError, IndexError, KeyError) as error:
            raise ProofError(name, f"{node.op_type} does not fit its operands: {error}") from error
        moved = CLASSES[node.op_type] == "movement"
        self.define(node.output[0], box if moved else replace(box, maker=node.op_type))

    def derive(self, op: str, name: str, boxes: list[Box], attributes: dict[str, Any]) -> Box:
        """Apply the rule of the operator's class."""
        if op == "Constant":
            return of_constant(constant_value(attributes["value"]), name)
        if op in reductions.RULES:
            box, obligation = reductions.RULES[op](Node(name, boxes, attributes))
            self.obligations += [obligation] if obligation else []
            return box
        if op == "Gather" and not boxes[1].constant:
            codes = boxes[1]
            self.lookups.append(
                {"node": name, "codes": [int(codes.low.min()), int(codes.high.max())], "rows": len(boxes[0].low)}
            )
        rule = ELEMENTWISE.get(op) or movement.RULES[op]
        return rule(Node(name, boxes, attributes))

    def known(self, node: str, tensor: str) -> Box:
        """Return the box of an operand."""
        if tensor not in self.boxes:
            raise ProofError(node, f"reads {tensor}, which nothing before it writes")
        return self.boxes[tensor]

    def define(self, tensor: str, box: Box) -> None:
        """Record a tensor, once."""
        if tensor in self.boxes:
            raise ProofError(tensor, "is defined twice")
        self.boxes[tensor] = box.called(tensor)


def check_model(model: onnx.ModelProto) -> None:
    """Refuse what lies outside one plain graph of standard operators."""
    for entry in model.opset_import:
        if entry.domain not in ("", "ai.onnx") and any(node.domain == entry.domain for node in model.graph.node):
            raise ProofError("model", f"operators of the domain {entry.domain!r}: their arithmetic is not known")
        if entry.domain in ("", "ai.onnx") and not OPSETS[0] <= entry.version <= OPSETS[1]:
            raise ProofError("model", f"operator set {entry.version}, known are {OPSETS[0]} to {OPSETS[1]}")
    if model.functions or model.graph.sparse_initializer:
        raise ProofError("model", "local functions and sparse constants are not known")


def checked_attributes(name: str, node: onnx.NodeProto) -> dict[str, Any]:
    """Return a node's attributes; refuses unknown operators and attributes."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in CLASSES:
        listed = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        raise ProofError(
            name, f"the operator {listed} may round differently from one engine, batch or position to another"
        )
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    unknown = set(attributes) - ATTRIBUTES.get(node.op_type, set())
    if unknown:
        raise ProofError(name, f"the attribute {min(unknown)} of {node.op_type} is not known")
    return attributes


def constant_value(stored: onnx.TensorProto) -> np.ndarray:
    """Return a stored tensor; refuses data outside the file."""
    if stored.data_location == onnx.TensorProto.EXTERNAL:
        raise ProofError(stored.name, "its data lies outside the file")
    return np.asarray(numpy_helper.to_array(stored))


def input_box(value: onnx.ValueInfoProto) -> Box:
    """Describe a graph input; refuses any other shape than [rows, width]."""
    tensor = value.type.tensor_type
    dims = tensor.shape.dim
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    if len(dims) != 2 or dims[0].HasField("dim_value") or dims[1].dim_value < 1:
        raise ProofError(value.name, "an input must have the shape [rows, width] with rows free and width fixed")
    if dtype not in (np.dtype(np.float64), np.dtype(np.int64)):
        raise ProofError(value.name, f"an input of type {dtype}, known are float64 and int64")
    return of_input(dims[1].dim_value, dtype, value.name)
