"""Graphs that were certified once, or ended the prover, though engines differ on them: each kind by its name."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from batchproof.training.prove import ProofError, prove
from batchproof.training.prove.certificate import page

Node = tuple[str, list[str], dict[str, Any]]
GUARD: list[Node] = [("IsNaN", ["x"], {}), ("Where", ["n0", "half", "x"], {})]
TAME: list[Node] = [*GUARD, ("Clip", ["_", "minus", "one"], {})]
CONSTANTS: Mapping[str, Any] = {
    "half": 0.5,
    "zero": 0.0,
    "zeros": np.zeros(2),
    "minus_zero": -0.0,
    "one": 1.0,
    "minus": -1.0,
    "two": 2.0,
    "tiny": 1e-310,
    "tiny_row": np.array([[1e-46]]),
    "nearly_one": 1.0 + 2.0**-52,
    "nan": np.nan,
    "infinity": np.inf,
    "minus_infinity": -np.inf,
    "index": np.array([0]),
    "axis": np.array([1]),
    "axes_twice": np.array([1, -1]),
    "yes": np.array([True, False]),
    "single": np.float32(1.0),
    "single_zero": np.float32(0.0),
    "whole": np.array([1, 2]),
    "list": np.array([0.0]),
}


def graph(nodes: Sequence[Node], output: int = TensorProto.DOUBLE, settle: str = "zero") -> onnx.ModelProto:
    """Build a graph on x [rows, 2] of nodes in a chain; `settle` names the constant that a last Add adds."""
    nodes_of_graph = []
    for number, (op, inputs, attributes) in enumerate(nodes):
        operands = [f"n{number - 1}" if name == "_" else name for name in inputs]
        nodes_of_graph.append(helper.make_node(op, operands, [f"n{number}"], name=f"n{number}"))
        kinds = {key: AttributeProto.INTS if isinstance(value, list) else None for key, value in attributes.items()}
        nodes_of_graph[-1].attribute.extend(
            helper.make_attribute(key, value, attr_type=kinds[key]) for key, value in attributes.items()
        )
    last = helper.make_node("Add", [nodes_of_graph[-1].output[0], settle], ["y"], name="y")
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in CONSTANTS.items()]
    x = helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["rows", 2])
    y = helper.make_tensor_value_info("y", output, None)
    return helper.make_model(
        helper.make_graph([*nodes_of_graph, last], "finding", [x], [y], stored),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )


FINDINGS: dict[str, tuple[list[Node], str]] = {
    "a Clip without a lower limit makes minus infinity finite in one engine": (
        [*GUARD, ("Clip", ["_", "", "one"], {}), ("Clip", ["_", "minus", "one"], {})],
        "the side without a limit",
    ),
    "a Clip without an upper limit makes infinity finite in one engine": (
        [*GUARD, ("Clip", ["_", "one"], {}), ("Clip", ["_", "one", "two"], {})],
        "the side without a limit",
    ),
    "a Clip without an upper limit makes its own lower one finite in one engine": (
        [*GUARD, ("Clip", ["_", "infinity"], {}), ("Clip", ["_", "one", "two"], {})],
        "the side without a limit",
    ),
    "a Clip without a lower limit and with minus infinity above": (
        [*GUARD, ("Clip", ["_", "", "minus_infinity"], {}), ("Clip", ["_", "one", "two"], {})],
        "the side without a limit",
    ),
    "a Clip without limits": ([*GUARD, ("Clip", ["_"], {}), ("Clip", ["_", "minus", "one"], {})], "without a limit"),
    "a Clip whose limits cross": ([*GUARD, ("Clip", ["_", "one", "minus"], {})], "which limit wins"),
    "a Clip with a list for a limit": ([*GUARD, ("Clip", ["_", "list", "one"], {})], "constant numbers"),
    "an Add of what is zero in float32": ([*TAME, ("Add", ["_", "tiny"], {})], "engines drop the operation"),
    "an Add to what is zero in float32": ([*TAME, ("Add", ["tiny", "_"], {})], "engines drop the operation"),
    "a Sub of what is zero in float32": ([*TAME, ("Sub", ["_", "tiny_row"], {})], "engines drop the operation"),
    "a Mul by what is one in float32": ([*TAME, ("Mul", ["_", "nearly_one"], {})], "engines drop the operation"),
    "a Div by what is one in float32": ([*TAME, ("Div", ["_", "nearly_one"], {})], "engines drop the operation"),
    "a constant over a tensor, though it is computed": (
        [*TAME, ("Add", ["_", "two"], {}), ("Max", ["one", "half"], {}), ("Div", ["_", "n3"], {})],
        "a constant over a tensor",
    ),
    "a constant over a constant": (
        [*TAME, ("Div", ["one", "two"], {}), ("Mul", ["_", "n2"], {})],
        "a constant over a tensor",
    ),
    "a Gather from a number without axes": ([*TAME, ("Gather", ["one", "index"], {})], "axis 0 does not exist"),
    "axes that depend on the rows": (
        [*TAME, ("Cast", ["_"], {"to": TensorProto.INT64}), ("Unsqueeze", ["n2", "_"], {})],
        "must be a constant list",
    ),
    "a maximum over no axes, which is over all": ([*TAME, ("ReduceMax", ["_"], {"axes": []})], "must be given"),
    "an axis named twice": ([*TAME, ("ReduceMax", ["_"], {"axes": [1, -1]})], "each exactly once"),
    "a sum over an axis named twice": (
        [*TAME, ("Round", ["_"], {}), ("ReduceSum", ["_", "axes_twice"], {})],
        "each exactly once",
    ),
    "keepdims that is 2": ([*TAME, ("ReduceMax", ["_"], {"axes": [1], "keepdims": 2})], "keepdims is 2"),
    "an order with negative axes": ([*TAME, ("Transpose", ["_"], {"perm": [0, -1]})], "must name each of 2 axes once"),
    "an axis that is a float": ([*TAME, ("Gather", ["_", "index"], {"axis": 1.0})], "is not supported"),
    "float32 in the middle": (
        [*TAME, ("Cast", ["_"], {"to": TensorProto.FLOAT}), ("Cast", ["_"], {"to": TensorProto.DOUBLE})],
        "float32; only outputs may be float32",
    ),
    "a constant of float32 in the middle": (
        [*TAME, ("Cast", ["single"], {"to": TensorProto.DOUBLE}), ("Mul", ["_", "n2"], {})],
        "float32; only outputs may be float32",
    ),
    "conditions of integers": ([*TAME, ("And", ["whole", "whole"], {}), ("Where", ["_", "n2", "one"], {})], "And on"),
    "the root of a constant that may be negative": ([*TAME, ("Sqrt", ["_"], {})], "the square root of a value"),
    "an output that may be NaN": (
        [*TAME, ("Add", ["_", "nan"], {})],
        "the output may be NaN or infinite",
    ),
    "an operand that is left out": ([*TAME, ("Add", ["_", ""], {})], "is left out"),
}


@pytest.mark.parametrize("name", FINDINGS)
def test_a_finding_stays_refused(name: str) -> None:
    """Each graph that engines differ on is refused for that very reason."""
    nodes, words = FINDINGS[name]
    with pytest.raises(ProofError, match=words):
        prove(graph(nodes).SerializeToString())


def test_the_tame_graph_itself_is_certified() -> None:
    """The graph that the findings are changed from is certified: they are refused for what they add."""
    prove(graph(TAME).SerializeToString())
    prove(graph([*TAME, ("Add", ["_", "zero"], {}), ("Mul", ["_", "one"], {})], settle="zeros").SerializeToString())


@pytest.mark.parametrize("zero", ["minus_zero", "computed", "cast"])
def test_only_a_stored_zero_settles_an_output(zero: str) -> None:
    """A zero that is computed may be -0.0 in another engine: Max(+0.0, -0.0) is either."""
    more: list[Node] = {
        "minus_zero": [],
        "computed": [("Max", ["minus_zero", "zero"], {}), ("Identity", ["n2"], {})],
        "cast": [("Cast", ["whole"], {"to": TensorProto.DOUBLE}), ("Identity", ["n2"], {})],
    }[zero]
    settle = {"minus_zero": "minus_zero", "computed": "n3", "cast": "n3"}[zero]
    with pytest.raises(ProofError, match="sign of its zeros"):
        prove(graph([*TAME, *more], settle=settle).SerializeToString())


@pytest.mark.parametrize(
    "shape, words",
    [
        (["rows", 3], "is declared with shape"),
        ([1, 2], "is declared with shape"),
        (["rows", "rows"], "is declared with shape"),
    ],
)
def test_a_declared_shape_must_be_the_derived_one(shape: list[Any], words: str) -> None:
    """Engines plan memory and rewrites by declared shapes: a wrong one is refused, of outputs and of tensors between."""
    for between in (False, True):
        changed = graph(TAME)
        value = helper.make_tensor_value_info("n2" if between else "y", TensorProto.DOUBLE, shape)
        if between:
            changed.graph.value_info.append(value)
        else:
            changed.graph.output[0].CopyFrom(value)
        with pytest.raises(ProofError, match=words):
            prove(changed.SerializeToString())


def test_a_declared_type_must_be_the_derived_one() -> None:
    """An output that is declared as another type than it is computed in is refused."""
    with pytest.raises(ProofError, match="declared as float32, but its type is float64"):
        prove(graph(TAME, output=TensorProto.FLOAT).SerializeToString())


def test_an_output_is_named_once() -> None:
    """The same output twice is refused."""
    changed = graph(TAME)
    changed.graph.output.append(changed.graph.output[0])
    with pytest.raises(ProofError, match="names an output twice"):
        prove(changed.SerializeToString())


def test_an_attribute_is_given_once() -> None:
    """Two attributes of one name are refused: engines differ in which they read."""
    changed = graph([*TAME, ("ReduceMax", ["_"], {"axes": [1]})])
    node = changed.graph.node[3]
    node.attribute.append(node.attribute[0])
    with pytest.raises(ProofError, match="is not supported"):
        prove(changed.SerializeToString())


def test_a_certificate_moves_no_cursor() -> None:
    """Names out of the file are shown without control characters, in a certificate and in a refusal."""
    steps = ("Round", ["_"], {}), ("Concat", ["_", "_"], {"axis": 1}), ("ReduceSum", ["_", "axis"], {"keepdims": 1})
    changed = graph([*TAME, *steps])
    changed.graph.node[5].name = "\x1b[2J\n"
    contents = page(prove(changed.SerializeToString()))
    assert "\x1b" not in contents
    assert "x1b[2J" in contents
    changed.graph.node[5].op_type = "Mean"
    with pytest.raises(ProofError) as refusal:
        prove(changed.SerializeToString())
    assert str(refusal.value).isprintable()
