"""Random graphs that the prover certifies keep their bits in every engine; `python -m bench.prove_fuzz` draws more."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from bench.numpy_graph import evaluate
from bench.prove_fuzz import Finding, check
from bench.random_graphs import draw

BLOCKS, GRAPHS = 10, 200


@pytest.mark.parametrize("block", range(BLOCKS))
def test_certified_graphs_have_the_same_bits_everywhere(block: int) -> None:
    """Of random graphs most are certified, some refused; each certified one gives a row the same bits everywhere."""
    onnxruntime.set_default_logger_severity(4)
    counts: Counter[bool] = Counter()
    for number in range(GRAPHS):
        random = np.random.default_rng([20261129, block, number])
        counts[check(draw(random, longest=16), random, quick=True).certified] += 1
    assert counts[True] > 0.6 * GRAPHS
    assert counts[False] > 0.05 * GRAPHS


def small(op: str, *operands: str, **constants: float) -> onnx.ModelProto:
    """Return x [rows, 1] through one operation and a last Add."""
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    stored.append(numpy_helper.from_array(np.zeros(1), "zero"))
    nodes = [helper.make_node(op, operands, ["n"]), helper.make_node("Add", ["n", "zero"], ["y"])]
    x, y = (helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["rows", 1]) for name in "xy")
    return helper.make_model(
        helper.make_graph(nodes, "small", [x], [y], stored), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )


def test_the_check_itself_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were a graph certified on which engines differ, the check would say so: here a Clip of minus infinity."""
    monkeypatch.setattr("bench.prove_fuzz.walk", lambda _: SimpleNamespace(boxes={}))
    with pytest.raises(Finding, match="other bits"):
        check(small("Clip", "x", "", "high", high=0.0), np.random.default_rng(0))


def test_the_numpy_evaluation_knows_every_operator() -> None:
    """Constants, sums and slices are evaluated as the operator set says."""
    known = evaluate(small("Mul", "x", "two", two=2.0), {"x": np.array([[3.0], [-1.0]])}, np.random.default_rng(0))
    assert known["y"].tolist() == [[6.0], [-2.0]]
