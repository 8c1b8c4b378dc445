"""The walk over a file: what it shows of small graphs, and that a hostile one is one sentence."""

from collections.abc import Callable

import numpy as np
import pytest

from batchproof.training.preprocessing.onnx_graph import Graph, TensorProto
from batchproof.training.prove import ProofError
from batchproof.training.prove.monotone.walk import unproved

Build = Callable[[Graph, str], str]


def model(build: Build, *, name: str = "value", width: int = 1) -> bytes:
    """Return a graph from two numbers to one output that `build` makes [rows, width] float64."""
    graph = Graph()
    source = graph.input("numeric", TensorProto.DOUBLE, 2)
    graph.output(
        name, graph.add("Cast", [build(graph, source)], "single", to=TensorProto.FLOAT), TensorProto.FLOAT, width
    )
    return bytes(graph.model("small").SerializeToString())


def weighed(*weights: float) -> Build:
    return lambda graph, source: graph.add("MatMul", [source, graph.constant("w", np.array(weights)[:, None])], "sum")


def test_columns_are_judged_one_by_one() -> None:
    """Only the columns that break their direction are returned; a weight of 0 keeps both."""
    assert unproved(model(weighed(2.0, -1.0)), [1, -1]) == []
    assert unproved(model(weighed(2.0, -1.0)), [1, 1]) == [1]
    assert unproved(model(weighed(2.0, -1.0)), [-1, 1]) == [0, 1]
    assert unproved(model(weighed(2.0, 0.0)), [1, 1]) == unproved(model(weighed(2.0, 0.0)), [0, -1]) == []


def test_missing_values_do_not_move() -> None:
    """What is filled in for a missing value has no part in the order, whatever it is."""

    def filled(graph: Graph, source: str) -> str:
        absent = graph.add("IsNaN", [source], "absent")
        whole = graph.add("Where", [absent, graph.constant("fill", np.array([5.0, -7.0])), source], "filled")
        return weighed(1.0, 1.0)(graph, whole)

    assert unproved(model(filled), [1, 1]) == []


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda graph, source: graph.add("Exp", [source], "power"), "power: Exp has no rule"),
        (
            lambda graph, source: graph.add("IsNaN", [graph.add("Sqrt", [source], "root")], "late"),
            "late: only an input may be",
        ),
        (lambda graph, source: graph.add("MatMul", [source, graph.add("Abs", [source], "size")], "squares"), "squares"),
    ],
)
def test_what_has_no_rule_is_refused(build: Build, sentence: str) -> None:
    """The node is named."""
    graph = Graph()
    source = graph.input("numeric", TensorProto.DOUBLE, 2)
    last = build(graph, source)
    kind = TensorProto.BOOL if last == "late" else TensorProto.DOUBLE
    graph.output("value", last, kind, 2)
    with pytest.raises(ProofError, match=sentence):
        unproved(_unchecked(graph), [1, 1])


def test_a_graph_with_other_answers_is_refused() -> None:
    """Three classes have no order, and an output of another name is no answer."""
    ways = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    three = model(
        lambda graph, source: graph.add("MatMul", [source, graph.constant("w", ways)], "s"),
        name="probabilities",
        width=3,
    )
    with pytest.raises(ProofError, match="neither with a value nor with the probabilities of two classes"):
        unproved(three, [1, 0])
    with pytest.raises(ProofError, match="neither with a value"):
        unproved(model(weighed(1.0, 1.0), name="other"), [1, 0])


def test_the_number_of_directions_is_that_of_the_columns() -> None:
    """A list of another length is refused."""
    with pytest.raises(ProofError, match="has 2 columns, but 3 directions are given"):
        unproved(model(weighed(1.0, 1.0)), [1, 0, 0])


def test_a_graph_that_grows_is_refused_before_it_takes_memory() -> None:
    """Tensors that double, or grow by broadcasting, end the walk with one sentence."""

    def doubled(graph: Graph, source: str) -> str:
        for _ in range(40):
            source = graph.add("Concat", [source, source], "twice", axis=1)
        return graph.add("MatMul", [source, graph.constant("w", np.ones((2, 1)))], "sum")

    def spread(graph: Graph, source: str) -> str:
        tall = graph.constant("tall", np.zeros((2**19, 1, 1)))
        wide = graph.add("Add", [source, graph.constant("wide", np.zeros((1, 2)))], "wide_sum")
        return graph.add(
            "Add", [graph.add("Add", [wide, tall], "both"), graph.constant("deep", np.zeros((2**10, 1, 1, 1)))], "more"
        )

    for build in (doubled, spread):
        graph = Graph()
        graph.output("value", build(graph, graph.input("numeric", TensorProto.DOUBLE, 2)), TensorProto.DOUBLE, 1)
        with pytest.raises(ProofError, match="elements for each row; at most 1048576"):
            unproved(_unchecked(graph), [1, 1])


def _unchecked(graph: Graph) -> bytes:
    """Return a model that onnx's own checker may refuse."""
    import onnx
    from onnx import helper

    parts = helper.make_graph(graph.nodes, "small", graph.inputs, graph.outputs, graph.initializers)
    opsets = [helper.make_opsetid("", 17)]
    parsed: onnx.ModelProto = helper.make_model(parts, opset_imports=opsets, ir_version=8)
    return bytes(parsed.SerializeToString())
