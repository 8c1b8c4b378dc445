"""Graphs in which a row could choose a size or a divisor are refused from the file; the others pass."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from batchproof.service.bundle.graph import nodes
from batchproof.service.bundle.graph.fields import GRAPH, MODEL
from batchproof.service.bundle.graph.protobuf import Message
from batchproof.service.bundle.graph.values import check_values, result_type

INT, FLOAT = TensorProto.INT64, TensorProto.FLOAT
Nodes = list[onnx.NodeProto]
node = helper.make_node


def constant(name: str, value: Any, dtype: Any = np.int64) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(value, dtype), name)


CONSTANTS = [
    constant("zero", [0]),
    constant("one", [1]),
    constant("three", [3]),
    constant("minus", [-1]),
    constant("mixed", [2, 0, 5]),
    constant("small", [4], np.int32),
    constant("half", [0.5], np.float32),
    helper.make_tensor("typed", INT, [2], [7, -(2**40)]),
    helper.make_tensor("typed_zero", INT, [2], [7, 0]),
    constant("many", np.arange(1, 5001)),
]


def parsed(made: Nodes, output: str = "y") -> nodes.Graph:
    inputs = [
        helper.make_tensor_value_info("codes", INT, ["rows", 2]),
        helper.make_tensor_value_info("numbers", FLOAT, ["rows", 2]),
    ]
    outputs = [helper.make_tensor_value_info(output, FLOAT, None)]
    model = helper.make_model(helper.make_graph(made, "g", inputs, outputs, CONSTANTS))
    (graph,) = Message(memoryview(model.SerializeToString()), "model", MODEL).messages("graph", "graph", GRAPH)
    return nodes.read(graph)


def row_sized(operator: str, inputs: list[str], **attributes: Any) -> Callable[[], Nodes]:
    return lambda: [node(operator, inputs, ["y"], name="n", **attributes)]


FROM_ROWS = {
    "ConstantOfShape": row_sized("ConstantOfShape", ["codes"]),
    "Expand": row_sized("Expand", ["numbers", "codes"]),
    "Tile": row_sized("Tile", ["numbers", "codes"]),
    "Range": row_sized("Range", ["zero", "codes", "one"]),
    "Pad": row_sized("Pad", ["numbers", "codes"]),
    "Resize by scales": row_sized("Resize", ["numbers", "", "numbers"]),
    "Resize to sizes": row_sized("Resize", ["numbers", "", "", "codes"]),
    "OneHot": row_sized("OneHot", ["codes", "codes", "numbers"]),
    "HannWindow": row_sized("HannWindow", ["codes"]),
    "DFT": row_sized("DFT", ["numbers", "codes"]),
    "MaxUnpool": row_sized("MaxUnpool", ["numbers", "codes", "codes"]),
    "computed from rows": lambda: [
        node("Add", ["codes", "one"], ["more"]),
        node("ReduceMax", ["more"], ["most"], keepdims=0),
        node("Tile", ["numbers", "most"], ["y"]),
    ],
    "the size of what rows select": lambda: [
        node("NonZero", ["codes"], ["places"]),
        node("Shape", ["places"], ["count"]),
        node("Tile", ["numbers", "count"], ["y"]),
    ],
    "the size of a slice that rows choose": lambda: [
        node("Slice", ["numbers", "zero", "codes"], ["some"]),
        node("Shape", ["some"], ["count"]),
        node("ConstantOfShape", ["count"], ["y"]),
    ],
}
BY_CONSTANT_OR_ROWS = {
    "constant": row_sized("Tile", ["numbers", "three"]),
    "number of rows": lambda: [
        node("Shape", ["numbers"], ["count"]),
        node("Add", ["count", "one"], ["more"]),
        node("ConstantOfShape", ["more"], ["y"]),
    ],
    "values that are repeated": row_sized("Tile", ["codes", "three"]),
    "constant of a node": lambda: [
        node("Constant", [], ["size"], value=constant("", [2, 2])),
        node("Expand", ["numbers", "size"], ["y"]),
    ],
}


@pytest.mark.parametrize("case", FROM_ROWS)
def test_size_from_rows_is_refused(case: str) -> None:
    """No operator may take the size of its result from what a row holds, however it was computed."""
    with pytest.raises(ValueError, match="takes a size from the values of rows"):
        check_values(parsed(FROM_ROWS[case]()))


@pytest.mark.parametrize("case", BY_CONSTANT_OR_ROWS)
def test_other_sizes_pass(case: str) -> None:
    """A size may be a constant, or follow from the number of rows."""
    check_values(parsed(BY_CONSTANT_OR_ROWS[case]()))


DANGEROUS = {
    "a column": ("codes", "codes"),
    "zero": ("codes", "zero"),
    "minus one": ("codes", "minus"),
    "zero among others": ("codes", "mixed"),
    "zero in typed data": ("codes", "typed_zero"),
    "more than are read": ("codes", "many_copied"),
    "a column beneath a constant": ("one", "codes"),
    "constant results": ("one", "computed"),
}


def divide(operator: str, dividend: str, divisor: str) -> Nodes:
    return [
        node("Add", ["one", "three"], ["computed"]),
        node("Concat", ["many", "many"], ["many_copied"], axis=0),
        node(operator, [dividend, divisor], ["y"], name="n"),
    ]


@pytest.mark.parametrize("operator", ["Div", "Mod"])
@pytest.mark.parametrize("case", DANGEROUS)
def test_division_that_may_end_the_process_is_refused(case: str, operator: str) -> None:
    """Whole numbers are divided by nothing that may be 0 or -1: the processor would end the process."""
    with pytest.raises(ValueError, match="divides whole numbers by what may be 0 or -1"):
        check_values(parsed(divide(operator, *DANGEROUS[case])))


@pytest.mark.parametrize("operator", ["Div", "Mod"])
@pytest.mark.parametrize(
    "operands", [("codes", "three"), ("codes", "typed"), ("codes", "many"), ("numbers", "numbers"), ("one", "half")]
)
def test_sound_division_passes(operands: tuple[str, str], operator: str) -> None:
    """Whole numbers may be divided by constants without 0 and -1, and floating-point numbers by anything."""
    check_values(parsed(divide(operator, *operands)))


def test_type_is_followed_through_operators() -> None:
    """A whole number is known as one behind casts, comparisons and choices, and so is a floating-point number."""
    to_float = [node("Cast", ["codes"], ["cast"], to=FLOAT), node("Div", ["cast", "cast"], ["y"])]
    check_values(parsed(to_float))
    to_whole = [
        node("Cast", ["numbers"], ["cast"], to=INT),
        node("Greater", ["numbers", "numbers"], ["is_more"]),
        node("Where", ["is_more", "cast", "codes"], ["chosen"]),
        node("Div", ["one", "chosen"], ["y"]),
    ]
    with pytest.raises(ValueError, match="divides whole numbers"):
        check_values(parsed(to_whole))


def test_unknown_type_counts_as_whole() -> None:
    """Where the type of a result is not known, it is not trusted to be a floating-point one."""
    made = [node("Novelty", ["numbers"], ["new"]), node("Div", ["new", "new"], ["y"])]
    with pytest.raises(ValueError, match="divides whole numbers"):
        check_values(parsed(made))


@pytest.mark.parametrize(
    "made, reason",
    [
        ([node("Relu", ["later"], ["y"]), node("Relu", ["numbers"], ["later"])], "reads 'later', which no node before"),
        ([node("Relu", ["y"], ["y"])], "reads 'y', which no node before it writes"),
        ([node("Relu", ["numbers"], ["y"]), node("Relu", ["numbers"], ["y"])], "writes 'y' anew"),
        ([node("Relu", ["numbers"], ["one"])], "writes 'one' anew"),
        ([node("Relu", ["numbers"], ["x"])], "no node writes the output 'y'"),
    ],
)
def test_nodes_stand_in_order(made: Nodes, reason: str) -> None:
    """Each name is written once, and before it is read."""
    with pytest.raises(ValueError, match=reason):
        check_values(parsed(made))


@pytest.mark.parametrize(
    "attribute, value, dtype",
    [
        ("value_float", 0.5, "float32"),
        ("value_floats", (0.5,), "float32"),
        ("value_int", 3, "int64"),
        ("value_ints", (3, 4), "int64"),
        ("value_string", b"a", ""),
    ],
)
def test_a_constant_has_the_type_of_the_field_that_holds_it(attribute: str, value: Any, dtype: str) -> None:
    """A Constant without a tensor is float32 or int64 by its attribute; a text has no type that rules know."""
    assert result_type(nodes.Node("Constant", "n", (), ("y",), {attribute: value}), []) == dtype
