"""Walk a graph from its inputs to its outputs, each operator by the rule of its class, and write the certificate."""

import hashlib
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from batchproof.training.prove.box import Box, ProofError, of_constant
from batchproof.training.prove.certificate import certificate
from batchproof.training.prove.declared import check_model, constant_value, input_boxes
from batchproof.training.prove.limits import MAX_ELEMENTS, MAX_FILE_BYTES, MAX_OPERANDS, Budget, shape_fault, shown
from batchproof.training.prove.node import Node
from batchproof.training.prove.operators import arithmetic, casts, choices, movement, reductions
from batchproof.training.prove.operators.forms import check_operands, checked_attributes
from batchproof.training.prove.operators.reductions import Obligation
from batchproof.training.prove.outputs import check_outputs
from batchproof.training.prove.wire import structure_fault

ELEMENTWISE = {**arithmetic.RULES, **choices.RULES, "Cast": casts.cast}
CLASSES = {
    **dict.fromkeys(ELEMENTWISE, "elementwise"),
    **dict.fromkeys(movement.RULES, "movement"),
    "Constant": "movement",
    **dict.fromkeys(reductions.RULES, "order_free"),
}


def prove(model: bytes) -> dict[str, Any]:
    """Return the certificate (JSON-able) of an ONNX file; raises ProofError at the first node that breaks the argument.

    Raises google.protobuf.message.DecodeError where the bytes are not an ONNX file.
    """
    proof = walk(model)
    return certificate(hashlib.sha256(model).hexdigest(), proof.counts, proof.obligations, proof.lookups)


def walk(model: bytes) -> "Proof":
    """Return all that is known of the tensors of a file; raises as `prove` does."""
    if len(model) > MAX_FILE_BYTES:
        raise ProofError("model", f"the file has {len(model)} bytes; at most {MAX_FILE_BYTES} are read")
    fault = structure_fault(model)
    if fault:
        raise ProofError("model", fault)
    parsed = onnx.load_model_from_string(model)
    check_model(parsed)
    proof = Proof(parsed.graph)
    with np.errstate(all="ignore"):
        for node in parsed.graph.node:
            proof.step(node)
    check_outputs(parsed.graph, proof.boxes)
    return proof


class Proof:
    """What is known so far of every tensor."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        """Describe the inputs and the stored constants."""
        self.boxes: dict[str, Box] = {"": of_constant(np.zeros(0), "")}  # an operand that is left out
        self.budget = Budget()
        self.counts: Counter[tuple[str, str]] = Counter()  # (class, operator)
        self.obligations: list[Obligation] = []
        self.lookups: list[dict[str, Any]] = []
        for stored in graph.initializer:
            self.define(stored.name, of_constant(constant_value(stored, stored.name), stored.name))
        for name, box in input_boxes(graph.input).items():
            self.define(name, box)

    def step(self, node: onnx.NodeProto) -> None:
        """Derive what is known of a node's output."""
        name = node.name or node.op_type
        attributes = checked_attributes(name, node)
        if len(node.input) > MAX_OPERANDS:
            raise ProofError(name, f"{len(node.input)} operands; at most {MAX_OPERANDS} are read")
        boxes = [self.known(name, source) for source in node.input]
        if len(node.output) != 1:
            raise ProofError(name, "a node must have exactly one output")
        check_operands(name, node.op_type, boxes)
        self.check_cost(name, node.op_type, boxes)
        self.counts[CLASSES[node.op_type], node.op_type] += 1
        try:
            box = self.derive(node.op_type, name, boxes, attributes)
        except (ValueError, IndexError) as error:
            raise ProofError(name, f"{node.op_type} does not fit its operands: {error}") from error
        fault = shape_fault(box.low.shape, max((each.low.size for each in boxes), default=box.low.size))
        fault = fault or self.budget.write(box.low.size)
        if fault:
            raise ProofError(name, fault)
        moved = CLASSES[node.op_type] == "movement"
        self.define(node.output[0], box if moved else replace(box, makers=frozenset([node.op_type])))

    def check_cost(self, name: str, op: str, boxes: list[Box]) -> None:
        """Refuse operands that take too long to read, by themselves or together with all earlier ones."""
        largest = max((box.low.size for box in boxes), default=0)
        fault = self.budget.read(sum(box.low.size for box in boxes))
        if op in ELEMENTWISE and largest > MAX_ELEMENTS:
            fault = f"{op} of {largest} elements; at most {MAX_ELEMENTS} are supported"
        if fault:
            raise ProofError(name, fault)

    def derive(self, op: str, name: str, boxes: list[Box], attributes: dict[str, Any]) -> Box:
        """Apply the rule of the operator's class."""
        if op == "Constant":
            return of_constant(constant_value(attributes["value"], name), name)
        if op in reductions.RULES:
            box, obligation = reductions.RULES[op](Node(name, boxes, attributes))
            self.obligations += [obligation] if obligation else []
            return box
        rule = ELEMENTWISE.get(op) or movement.RULES[op]
        box = rule(Node(name, boxes, attributes))
        if op == "Gather" and not boxes[1].constant:
            ends = [int(boxes[1].low.min()), int(boxes[1].high.max())]
            self.lookups.append({"node": name, "codes": ends, "rows": len(boxes[0].low)})
        return box

    def known(self, node: str, tensor: str) -> Box:
        """Return the box of an operand."""
        if tensor not in self.boxes:
            raise ProofError(node, f"reads {shown(tensor)}, which nothing before it writes")
        return self.boxes[tensor]

    def define(self, tensor: str, box: Box) -> None:
        """Record a tensor, once."""
        if tensor in self.boxes:
            raise ProofError(tensor, "is defined twice")
        self.boxes[tensor] = box.called(tensor)
