"""The form that each operator must have: how many operands, of which types, and which attributes with which values.

Between operator sets 13 and 17 the operators below have one form, and the rules read no other. Types that a rule does
not model are refused here: unsigned, 8- and 16-bit integers, float16, texts. float32 is for outputs: `Cast` may make
it, and the `Add +0.0` of an output may read it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import AttributeProto, helper

from batchproof.training.prove.box import Box, ProofError
from batchproof.training.prove.limits import MAX_OPERANDS, shown

TYPES = {"d": "float64", "s": "float32", "l": "int64", "i": "int32", "b": "bool"}
LETTERS = {np.dtype(name): letter for letter, name in TYPES.items()}
MANY = MAX_OPERANDS  # of Concat, Min and Max
FLAG = (AttributeProto.INT, (0, 1))
NUMBER = (AttributeProto.INT, None)
NUMBERS = (AttributeProto.INTS, None)
FACTOR = (AttributeProto.FLOAT, None)
MAX_NUMBERS = 64  # entries of an attribute that is a list

Attribute = tuple[int, tuple[int, ...] | None]  # its kind, and the values it may have


class Form(NamedTuple):
    """The operands and attributes that an operator may have."""

    types: str  # letters of TYPES: what the first operands may be, all of them of one type
    least: int = 1  # how many operands there must be
    most: int = 1
    last: str = ""  # letters: what the operands behind the first `of_one_type` may be, all of them of one type
    of_one_type: int = MANY
    absent: int = MANY  # the place from which on operands may be left out
    attributes: dict[str, Attribute] = {}  # noqa: RUF012 a NamedTuple's default, never changed
    required: tuple[str, ...] = ()


FORMS = {
    "Add": Form("dsli", 2, 2),
    **dict.fromkeys(("Sub", "Mul"), Form("dli", 2, 2)),
    "Div": Form("d", 2, 2),
    **dict.fromkeys(("Neg", "Abs"), Form("dli")),
    **dict.fromkeys(("Sqrt", "Floor", "Round", "IsNaN"), Form("d")),
    "Clip": Form("dli", 1, 3, absent=1),
    **dict.fromkeys(("Min", "Max"), Form("dli", 1, MANY)),
    "Where": Form("b", 3, 3, "dli", 1),
    "Equal": Form("dlib", 2, 2),
    **dict.fromkeys(("Less", "LessOrEqual", "Greater", "GreaterOrEqual"), Form("dli", 2, 2)),
    **dict.fromkeys(("And", "Or"), Form("b", 2, 2)),
    "Not": Form("b"),
    "Cast": Form("dlib", attributes={"to": NUMBER}, required=("to",)),
    "Identity": Form("dlib"),
    "Constant": Form("", 0, 0, attributes={"value": (AttributeProto.TENSOR, None)}, required=("value",)),
    "Gather": Form("dlib", 2, 2, "li", 1, attributes={"axis": NUMBER}),
    "Concat": Form("dlib", 1, MANY, attributes={"axis": NUMBER}, required=("axis",)),
    "Reshape": Form("dlib", 2, 2, "l", 1, attributes={"allowzero": (AttributeProto.INT, (0,))}),
    "Expand": Form("dlib", 2, 2, "l", 1),
    "Unsqueeze": Form("dlib", 2, 2, "l", 1),
    "Squeeze": Form("dlib", 1, 2, "l", 1),
    "Transpose": Form("dlib", attributes={"perm": NUMBERS}),
    "Slice": Form("dlib", 3, 5, "li", 1),
    "Gemm": Form("d", 2, 3, absent=2, attributes={"alpha": FACTOR, "beta": FACTOR, "transA": FLAG, "transB": FLAG}),
    "MatMul": Form("d", 2, 2),
    "ReduceSum": Form("d", 1, 2, "l", 1, absent=1, attributes={"keepdims": FLAG, "noop_with_empty_axes": FLAG}),
    "ReduceMax": Form("dli", attributes={"axes": NUMBERS, "keepdims": FLAG}),
}


def checked_attributes(name: str, node: onnx.NodeProto) -> dict[str, Any]:
    """Return a node's attributes; refuses operators and attributes that no rule reads, and values none models."""
    form = FORMS.get(node.op_type)
    if node.domain not in ("", "ai.onnx") or form is None:
        listed = shown(f"{node.domain}.{node.op_type}" if node.domain else node.op_type)
        raise ProofError(
            name, f"the operator {listed} may round differently from one engine, batch or position to another"
        )
    known: dict[str, Any] = {}
    for attribute in node.attribute:
        kind, values = form.attributes.get(attribute.name, (AttributeProto.UNDEFINED, ()))
        if attribute.name in known or attribute.type != kind or attribute.ref_attr_name:
            raise ProofError(name, f"the attribute {shown(attribute.name)} of {node.op_type} is not supported")
        if len(attribute.ints) > MAX_NUMBERS:
            raise ProofError(name, f"the attribute {shown(attribute.name)} has {len(attribute.ints)} numbers")
        known[attribute.name] = helper.get_attribute_value(attribute)
        if values is not None and known[attribute.name] not in values:
            raise ProofError(
                name, f"{attribute.name} is {known[attribute.name]}, known is {' or '.join(map(str, values))}"
            )
    missing = [each for each in form.required if each not in known]
    if missing:
        raise ProofError(name, f"{node.op_type} without its attribute {missing[0]}")
    return known


def check_operands(name: str, op: str, boxes: Sequence[Box]) -> None:
    """Refuse operands of another number or of other types than the operator's form has."""
    form = FORMS[op]
    if not form.least <= len(boxes) <= form.most:
        raise ProofError(name, f"{op} with {len(boxes)} operands")
    groups = (boxes[: form.of_one_type], form.types), (boxes[form.of_one_type :], form.last)
    place = 0
    for members, letters in groups:
        types = set()
        for box in members:
            if box.name:
                types.add(LETTERS[box.dtype])
            elif place < form.absent:
                raise ProofError(name, f"operand {place + 1} of {op} is left out")
            place += 1
        other = types - set(letters)
        if other or len(types) > 1:
            raise ProofError(name, type_fault(op, letters, sorted(other or types)))


def type_fault(op: str, letters: str, types: Sequence[str]) -> str:
    """Return why operands of these types are refused."""
    if types == ["s"]:
        return f"{op} computes with float32; only outputs may be float32"
    listed = ", ".join(TYPES[letter] for letter in letters)
    return f"{op} on {' and '.join(TYPES[letter] for letter in types)}: known are operands of one type, {listed}"
