"""Each rule of the prover on a graph of a few nodes: what it concludes, and what it refuses."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from batchproof.training.export.exact.graph import exact_graph
from batchproof.training.prove.box import Box, ProofError, grid_of
from batchproof.training.prove.proof import Proof
from tests.networks import Net, make_net
from tests.permuted import evaluate

Node = tuple[str, list[str], dict[str, Any]]
CONSTANTS = {
    "zero": np.array(0.0),
    "one": np.array(1.0),
    "eight": np.array(8.0),
    "third": np.array(1.0 / 3.0),
    "huge": np.array(2.0**1000),
    "minus": np.array([-2.0, 0.0, 4.0, 0.5]),
    "table": np.arange(12.0).reshape(6, 2),
    "columns": np.array([2, 0]),
    "square_places": np.array([[0, 1], [2, 3]]),
    "more_rows": np.array([3, 4]),
    "column": np.array([3]),
    "rows": np.array([-1, 2, 2]),
    "keep": np.array([0, 4]),
    "flat": np.array([-1]),
    "wrong": np.array([4, -1]),
    "wide": np.array([1, 2, 2]),
    "axis0": np.array([0]),
    "axis1": np.array([1]),
    "axis2": np.array([2]),
    "from": np.array([1]),
    "to": np.array([3]),
    "low": np.array(0),
    "high": np.array(5),
    "table7": np.arange(7.0),
    "square": np.arange(16.0).reshape(4, 4),
    "bias": np.arange(4.0),
    "column_bias": np.arange(4.0)[:, None],
    "parts": np.array([2, 2, -1]),
    "joined": np.array([4, -1]),
    "inside": np.array([2, -1, 2]),
    "stack": np.arange(12.0).reshape(2, 3, 2),
    "wild": np.full((2, 3, 2), np.inf),
    "fine": np.full((2, 3, 2), 1.0 / 3.0),
}
COLUMNS: list[Node] = [  # [rows, 4] -> [4, rows], integers
    ("Gemm", ["square", "_", "column_bias"], {"transB": 1}),
    ("Clip", ["_", "zero", "eight"], {}),
    ("Round", ["_"], {}),
]


def run(*nodes: Node) -> Box:
    """Clip x [rows, 4] to [0, 8] as `c`, codes i [rows, 1] as `k`, apply the nodes in a chain; returns what is known."""
    first: list[Node] = [
        ("IsNaN", ["x"], {}),
        ("Where", ["n0", "zero", "x"], {}),
        ("Clip", ["n1", "zero", "eight"], {}),
        ("Clip", ["i", "low", "high"], {}),
    ]
    names = {"c": "n2", "k": "n3"}
    protos = []
    for number, (op, inputs, attributes) in enumerate([*first, *nodes]):
        operands = [f"n{number - 1}" if name == "_" else names.get(name, name) for name in inputs]
        protos.append(helper.make_node(op, operands, [f"n{number}"], name=f"node{number}", **attributes))
    x = helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["rows", 4])
    i = helper.make_tensor_value_info("i", TensorProto.INT64, ["rows", 1])
    stored = [numpy_helper.from_array(value, name) for name, value in CONSTANTS.items()]
    graph = helper.make_graph(protos, "small", [x, i], [], stored)
    proof = Proof(graph)
    with np.errstate(all="ignore"):
        for node in graph.node:
            proof.step(node)
    return proof.boxes[protos[-1].output[0]]


@pytest.mark.parametrize(
    "nodes, low, high",
    [
        ([("Add", ["c", "one"], {})], 1, 9),
        ([("Sub", ["one", "c"], {})], -7, 1),
        ([("Mul", ["c", "minus"], {})], [-16, 0, 0, 0], [0, 0, 32, 4]),
        ([("Sub", ["c", "eight"], {}), ("Mul", ["_", "_"], {})], 0, 64),
        ([("Sub", ["c", "eight"], {}), ("Abs", ["_"], {})], 0, 8),
        ([("Neg", ["c"], {})], -8, 0),
        ([("Add", ["c", "one"], {}), ("Div", ["c", "_"], {})], 0, 8),
        ([("Add", ["c", "one"], {}), ("Sqrt", ["_"], {})], 1, 3),
        ([("Mul", ["c", "third"], {}), ("Floor", ["_"], {})], 0, 2),
        ([("Min", ["c", "minus"], {})], [-2, 0, 0, 0], [-2, 0, 4, 0.5]),
        ([("Round", ["c"], {}), ("Sub", ["c", "_"], {})], -0.5, 0.5),
        ([("Less", ["c", "one"], {}), ("Not", ["_"], {}), ("Where", ["_", "c", "minus"], {})], [-2, 0, 0, 0], 8),
        ([("Greater", ["c", "one"], {}), ("Cast", ["_"], {"to": TensorProto.DOUBLE})], 0, 1),
        ([("Cast", ["c"], {"to": TensorProto.INT64})], 0, 8),
        ([("Gather", ["table", "k"], {"axis": 0})], [[[0, 1]]], [[[10, 11]]]),
        ([("ReduceMax", ["c"], {"axes": [1]})], 0, 8),
        ([("Round", ["c"], {}), ("ReduceSum", ["_", "axis1"], {})], 0, 32),
        ([("Gather", ["c", "columns"], {"axis": 1}), ("ReduceSum", ["_", "axis1"], {})], 0, 16),
    ],
)
def test_intervals(nodes: list[Node], low: Any, high: Any) -> None:
    """The interval of a result holds every value that it can take, and no more than the operands tell."""
    box = run(*nodes)
    assert np.array_equal(box.low, np.broadcast_to(low, box.low.shape))
    assert np.array_equal(box.high, np.broadcast_to(high, box.high.shape))
    assert not box.nan.any()


@pytest.mark.parametrize(
    "nodes, exponent",
    [
        ([("Round", ["c"], {})], 0),
        ([("Round", ["c"], {}), ("Mul", ["_", "eight"], {})], 3),
        ([("Round", ["c"], {}), ("Div", ["_", "eight"], {})], -3),
        ([("Round", ["c"], {}), ("Add", ["_", "third"], {})], -54),
        ([("Round", ["c"], {}), ("Div", ["_", "third"], {})], -1074),
        ([("Round", ["c"], {}), ("Sqrt", ["_"], {})], -1074),
        (
            [("Round", ["c"], {}), ("Gather", ["_", "columns"], {"axis": 1}), ("ReduceSum", ["_", "axis1"], {})],
            0,
        ),
        ([("Cast", ["c"], {"to": TensorProto.FLOAT})], -149),
    ],
)
def test_grids(nodes: list[Node], exponent: int) -> None:
    """A result is a multiple of the power of two that its operands' grids leave."""
    assert (run(*nodes).exponent == exponent).all()


@pytest.mark.parametrize(
    "nodes, shape",
    [
        ([("Gather", ["c", "columns"], {"axis": 1})], (1, 2)),
        ([("Reshape", ["c", "rows"], {})], (1, 2, 2)),
        ([("Reshape", ["c", "rows"], {}), ("Reshape", ["_", "keep"], {})], (1, 4)),
        ([("Reshape", ["c", "rows"], {}), ("Transpose", ["_"], {"perm": [0, 2, 1]})], (1, 2, 2)),
        ([("Unsqueeze", ["c", "axis2"], {})], (1, 4, 1)),
        ([("Unsqueeze", ["c", "axis2"], {}), ("Squeeze", ["_", "axis2"], {})], (1, 4)),
        ([("Slice", ["c", "from", "to", "axis1"], {})], (1, 2)),
        ([("Concat", ["c", "c"], {"axis": -1})], (1, 8)),
        ([("Gather", ["c", "column"], {"axis": 1}), ("Expand", ["_", "keep1"], {})], (1, 4)),
    ],
)
def test_movements_keep_the_rows_first(
    nodes: list[Node], shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data movement behind the row axis is followed; the description stays that of one row."""
    monkeypatch.setitem(CONSTANTS, "keep1", np.array([1, 4]))
    box = run(*nodes)
    assert (box.low.shape, box.rowed) == (shape, True)


@pytest.mark.parametrize(
    "nodes, words",
    [
        ([("Add", ["x", "one"], {}), ("Round", ["_"], {}), ("Clip", ["_", "zero", "one"], {})], "may be NaN"),
        ([("Max", ["x", "zero"], {})], "may be NaN"),
        ([("Cast", ["x"], {"to": TensorProto.INT64})], "NaN may reach the Cast"),
        ([("Cast", ["n1"], {"to": TensorProto.INT64})], "may not fit int64"),
        ([("Sub", ["c", "one"], {}), ("Sqrt", ["_"], {})], "the square root of a value that may be as low as -1"),
        ([("Div", ["one", "c"], {})], "divisor may be zero"),
        ([("Add", ["c", "one"], {}), ("Div", ["one", "_"], {})], "a constant over a tensor"),
        ([("Mul", ["n1", "zero"], {}), ("ReduceSum", ["_", "axis1"], {})], "NaN or infinite"),
        ([("ReduceSum", ["c", "axis1"], {})], r"more than 2\^53"),
        ([("ReduceSum", ["c", "axis0"], {})], "mix rows"),
        ([("Gather", ["n1", "columns"], {"axis": 1}), ("ReduceSum", ["_", "axis1"], {})], "NaN or infinite"),
        (
            [("Mul", ["c", "huge"], {}), ("Gather", ["_", "columns"], {"axis": 1}), ("ReduceSum", ["_", "axis1"], {})],
            "too close to the largest float64",
        ),
        ([("ReduceMax", ["x"], {"axes": [1]})], "NaN may reach the maximum"),
        ([("ReduceMax", ["c"], {})], "would run over the rows"),
        ([("Gather", ["table", "i"], {"axis": 0})], "Clip them first"),
        ([("Gather", ["c", "columns"], {"axis": 0})], "mix rows"),
        ([("Reshape", ["c", "flat"], {})], "does not keep the row axis"),
        ([("Reshape", ["c", "wrong"], {})], "does not keep the row axis"),
        ([("Expand", ["c", "wide"], {})], "does not"),
        ([("Squeeze", ["c"], {})], "would lose its row axis"),
        ([("Unsqueeze", ["c", "axis0"], {})], "mix rows"),
        ([("Transpose", ["c"], {})], "must stay first"),
        ([("Slice", ["c", "from", "to", "axis0"], {})], "mix rows"),
        ([("Slice", ["c", "from", "to"], {})], "must be constant"),
        ([("Concat", ["c", "table"], {"axis": 1})], "can be joined only with tensors that have the same row axis"),
        ([("Add", ["c", "table"], {})], "vary along the row axis"),
        ([("Unsqueeze", ["c", "axis2"], {}), ("Add", ["_", "c"], {})], "row axes of the operands do not match"),
        ([("Clip", ["c", "zero", "c"], {})], "must be constant numbers"),
        ([("Identity", ["nowhere"], {})], "nothing before it writes"),
        ([("Gather", ["c", "columns"], {"axis": 3})], "axis 3 does not exist"),
        ([("Add", ["c", "table7"], {})], "does not fit its operands"),
        ([("Gather", ["c", "square_places"], {"axis": 1})], "takes indices of one axis"),
        ([("Expand", ["c", "more_rows"], {})], "does not keep the row axis"),
        ([("Transpose", ["c"], {"perm": list(range(65))})], "the attribute perm has 65 numbers"),
        ([("Cast", ["c"], {})], "Cast without its attribute to"),
    ],
)
def test_refusals(nodes: list[Node], words: str) -> None:
    """What breaks a rule is refused in words that say why."""
    with pytest.raises(ProofError, match=words):
        run(*nodes)


@pytest.mark.parametrize(
    "nodes, shape, rows",
    [
        ([("Gemm", ["_", "square", "bias"], {})], (1, 4), 0),
        ([("Gemm", ["square", "_", "column_bias"], {"transB": 1})], (4, 1), 1),
        ([*COLUMNS, ("Gemm", ["square", "_", "column_bias"], {})], (4, 1), 1),
        ([*COLUMNS, ("Gemm", ["_", "square", "bias"], {"transA": 1})], (1, 4), 0),
        ([*COLUMNS, ("Reshape", ["_", "parts"], {})], (2, 2, 1), 2),
        ([*COLUMNS, ("Reshape", ["_", "parts"], {}), ("MatMul", ["stack", "_"], {})], (2, 3, 1), 2),
        ([*COLUMNS, ("Reshape", ["_", "parts"], {}), ("Reshape", ["_", "joined"], {})], (4, 1), 1),
        ([*COLUMNS, ("Add", ["_", "column_bias"], {})], (4, 1), 1),
        ([*COLUMNS, ("ReduceMax", ["_"], {"axes": [0], "keepdims": 0})], (1,), 0),
        ([*COLUMNS, ("ReduceMax", ["_"], {"axes": [0], "keepdims": 0}), ("Unsqueeze", ["_", "axis1"], {})], (1, 1), 0),
    ],
)
def test_products_tell_where_the_rows_are(nodes: list[Node], shape: tuple[int, ...], rows: int) -> None:
    """The row axis is followed through products, Reshape and maxima, wherever it goes."""
    box = run(("Round", ["c"], {}), *nodes)
    assert (box.low.shape, box.rows) == (shape, rows)


@pytest.mark.parametrize(
    "nodes, words",
    [
        ([("Gemm", ["square", "_", "column_bias"], {})], "mix them"),
        ([("Gemm", ["_", "square", "bias"], {"transA": 1})], "mix them"),
        ([("Gemm", ["_", "_", "bias"], {"transB": 1})], "must be constant"),
        ([("Gemm", ["square", "_", "bias"], {"transB": 1})], "bias must not vary along the row axis"),
        ([("Gemm", ["_", "square", "column_bias"], {})], "bias must not vary along the row axis"),
        ([*COLUMNS, ("Gemm", ["square", "_", "column_bias"], {"transB": 1})], "mix them"),
        ([*COLUMNS, ("Add", ["_", "bias"], {})], "vary along the row axis"),
        ([*COLUMNS, ("Add", ["_", "n4"], {})], "row axes of the operands do not match"),
        ([*COLUMNS, ("ReduceMax", ["_"], {"axes": [1]})], "mix rows"),
        ([*COLUMNS, ("Transpose", ["_"], {"perm": [1, 0]})], "must be the first axis"),
        ([*COLUMNS, ("Gather", ["_", "columns"], {"axis": 0})], "must be the first axis"),
        ([*COLUMNS, ("Slice", ["_", "from", "to", "axis0"], {})], "must be the first axis"),
        ([*COLUMNS, ("Unsqueeze", ["_", "axis0"], {})], "must be the first axis"),
        ([*COLUMNS, ("Squeeze", ["_", "axis0"], {})], "must be the first axis"),
        ([*COLUMNS, ("Expand", ["_", "keep"], {})], "must be the first axis"),
        ([*COLUMNS, ("Concat", ["_", "_"], {"axis": 1})], "mix rows"),
        ([*COLUMNS, ("Concat", ["_", "n4"], {"axis": 0})], "same row axis"),
        ([*COLUMNS, ("Reshape", ["_", "rows"], {})], "does not keep the row axis"),
        ([*COLUMNS, ("Reshape", ["_", "parts"], {}), ("Reshape", ["_", "inside"], {})], "does not keep the row axis"),
        ([("MatMul", ["_", "square"], {})], "must be constant"),
        ([*COLUMNS, ("MatMul", ["square", "_"], {})], r"\[k, out, in\]"),
        ([*COLUMNS, ("Reshape", ["_", "parts"], {}), ("MatMul", ["wild", "_"], {})], "constant and finite"),
        ([*COLUMNS, ("Reshape", ["_", "parts"], {}), ("MatMul", ["fine", "_"], {})], r"more than 2\^53"),
        (
            [*COLUMNS, ("Reshape", ["_", "parts"], {}), ("MatMul", ["stack", "_"], {}), ("Add", ["_", "one"], {})],
            "merge a following",
        ),
        (
            [*COLUMNS, ("Mul", ["_", "eight"], {}), ("Reshape", ["_", "parts"], {}), ("MatMul", ["stack", "_"], {})],
            "factor",
        ),
    ],
)
def test_products_that_mix_rows_or_can_be_merged_are_refused(nodes: list[Node], words: str) -> None:
    """A product along the rows, a constant along them, or arithmetic that engines take into a MatMul is refused."""
    with pytest.raises(ProofError, match=words):
        run(("Round", ["c"], {}), *nodes)


@pytest.mark.parametrize("guard", [["IsNaN"], ["IsNaN", "Not"]])
def test_a_guard_counts_on_its_own_side_only(guard: list[str]) -> None:
    """Where(IsNaN(x), 0, x) is free of NaN; with the condition negated, or of another tensor, it is not."""
    nodes: list[Node] = [(op, ["x" if number == 0 else "_"], {}) for number, op in enumerate(guard)]
    assert run(*nodes, ("Where", ["_", "zero", "x"], {})).nan.any() == (len(guard) == 2)
    assert run(*nodes, ("Where", ["_", "x", "zero"], {})).nan.any() == (len(guard) == 1)
    assert run(("IsNaN", ["c"], {}), ("Where", ["_", "zero", "x"], {})).nan.any()


@pytest.mark.parametrize("op, free", [("Or", True), ("And", False)])
def test_guards_put_together(op: str, *, free: bool) -> None:
    """Or of a guard and any condition still guards; And does not."""
    nodes: list[Node] = [("Greater", ["c", "one"], {}), ("IsNaN", ["x"], {}), (op, ["n4", "n5"], {})]
    assert run(*nodes, ("Where", ["_", "zero", "x"], {})).nan.any() != free


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_every_value_lies_where_the_prover_says(task: str) -> None:
    """On rows of every kind each tensor of an exact graph lies in its interval, on its grid, and is NaN only where it may be."""
    net = make_net(task, widths=(24, 12), members=2)
    model = exact_graph(net.folded, net.preprocess, net.maxima, headroom=0.5).model("exact")
    proof = Proof(model.graph)
    with np.errstate(all="ignore"):
        for node in model.graph.node:
            proof.step(node)
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=node.output[0]) for node in model.graph.node)
    tensors = evaluate(model, feeds_beyond(net), np.random.default_rng(0))
    for name, values in tensors.items():
        check_inside(proof.boxes[name], values, name)


def feeds_beyond(net: Net) -> dict[str, np.ndarray]:
    """Return the network's rows with extremes among them."""
    feeds = {name: array.copy() for name, array in net.arrays().items()}
    feeds["numeric"][:6] = np.array([np.inf, -np.inf, np.nan, 1.7e308, -1.7e308, -0.0])[:, None]
    feeds["categorical"][:2] = [[-(2**63), 2**63 - 1], [99, -99]]
    return feeds


def check_inside(box: Box, values: np.ndarray, name: str) -> None:
    """Assert that values [rows, …] are as the box says."""
    assert values.dtype == box.dtype, name
    nan = np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)
    assert not (nan & ~box.nan).any(), name
    assert ((values >= box.low) & (values <= box.high) | nan).all(), name
    assert (grid_of(values) >= box.exponent).all(), name
