"""Integers of each width are modelled exactly: what may wrap, or does not fit another type, is refused."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from batchproof.training.prove.box import Box, ProofError
from batchproof.training.prove.proof import Proof

Node = tuple[str, list[str], dict[str, Any]]
LEAST, MOST = -(2**63), 2**63 - 1
LONG, INT, DOUBLE, FLOAT = TensorProto.INT64, TensorProto.INT32, TensorProto.DOUBLE, TensorProto.FLOAT


def derive(nodes: Sequence[Node], **constants: Any) -> Box:
    """Apply nodes in a chain to codes i [rows, 2] and x [rows, 2]; `_` is the result before. Returns what is known."""
    protos = []
    for number, (op, inputs, attributes) in enumerate(nodes):
        operands = [f"n{number - 1}" if name == "_" else name for name in inputs]
        protos.append(helper.make_node(op, operands, [f"n{number}"], name=f"n{number}", **attributes))
    inputs = [helper.make_tensor_value_info(name, kind, ["rows", 2]) for name, kind in (("i", LONG), ("x", DOUBLE))]
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    proof = Proof(helper.make_graph(protos, "small", inputs, [], stored))
    with np.errstate(all="ignore"):
        for node in protos:
            proof.step(node)
    return proof.boxes[protos[-1].output[0]]


def clipped(low: int, high: int) -> tuple[list[Node], dict[str, Any]]:
    """Clip the codes to an interval."""
    return [("Clip", ["i", "low", "high"], {})], {"low": low, "high": high}


@pytest.mark.parametrize(
    "interval, then, known, ends",
    [
        ((LEAST, MOST - 1), ("Add", ["_", "c"], {}), 1, (LEAST + 1, MOST)),
        ((LEAST + 1, MOST), ("Sub", ["_", "c"], {}), 1, (LEAST, MOST - 1)),
        ((0, MOST), ("Sub", ["c", "_"], {}), -1, (LEAST, -1)),
        ((-(2**31), 2**31), ("Mul", ["_", "c"], {}), 2**32 - 1, (-(2**31) * (2**32 - 1), 2**31 * (2**32 - 1))),
        ((-3, 2), ("Mul", ["_", "_"], {}), 0, (0, 9)),
        ((LEAST + 1, MOST), ("Neg", ["_"], {}), 0, (-MOST, MOST)),
        ((LEAST + 1, 5), ("Abs", ["_"], {}), 0, (0, MOST)),
        ((2**53 + 1, MOST), ("Min", ["_", "c"], {}), 2**53 + 3, (2**53 + 1, 2**53 + 3)),
        ((LEAST, -(2**53) - 1), ("Max", ["_", "c"], {}), -(2**53) - 3, (-(2**53) - 3, -(2**53) - 1)),
        ((-(2**53), 2**53), ("Cast", ["_"], {"to": DOUBLE}), 0, (-(2.0**53), 2.0**53)),
        ((-(2**24), 2**24), ("Cast", ["_"], {"to": FLOAT}), 0, (-(2.0**24), 2.0**24)),
        ((-(2**31), 2**31 - 1), ("Cast", ["_"], {"to": INT}), 0, (-(2**31), 2**31 - 1)),
        ((LEAST, MOST), ("Cast", ["_"], {"to": LONG}), 0, (LEAST, MOST)),
    ],
)
def test_intervals_of_integers_are_exact(
    interval: tuple[int, int], then: Node, known: int, ends: tuple[float, float]
) -> None:
    """The ends are exact up to the last integer of the type, also where float64 has no such number."""
    nodes, constants = clipped(*interval)
    box = derive([*nodes, then], c=known, **constants)
    assert [(low.item(), high.item()) for low, high in zip(box.low.flat, box.high.flat, strict=True)] == [ends] * 2


@pytest.mark.parametrize(
    "interval, then, known, words",
    [
        ((LEAST, MOST), ("Add", ["_", "c"], {}), 1, "may not fit int64: they would wrap around"),
        ((LEAST, 0), ("Sub", ["_", "c"], {}), 1, "they would wrap around"),
        ((LEAST, 0), ("Sub", ["c", "_"], {}), 0, "they would wrap around"),
        ((0, 2**32), ("Mul", ["_", "c"], {}), 2**31, "they would wrap around"),
        ((LEAST, LEAST), ("Mul", ["_", "c"], {}), -1, "they would wrap around"),
        ((0, 2**32), ("Mul", ["_", "_"], {}), 0, "they would wrap around"),
        ((LEAST, 5), ("Neg", ["_"], {}), 0, "they would wrap around"),
        ((LEAST, 5), ("Abs", ["_"], {}), 0, "they would wrap around"),
        ((0, 2**53 + 1), ("Cast", ["_"], {"to": DOUBLE}), 0, "does not hold all integers"),
        ((-(2**24) - 1, 0), ("Cast", ["_"], {"to": FLOAT}), 0, "does not hold all integers"),
        ((0, 2**31), ("Cast", ["_"], {"to": INT}), 0, "may not fit int32"),
        ((-(2**31) - 1, 0), ("Cast", ["_"], {"to": INT}), 0, "may not fit int32"),
        ((1, 9), ("Div", ["_", "c"], {}), 2, "Div on int64"),
        ((1, 9), ("Div", ["c", "_"], {}), 2, "Div on int64"),
        ((LEAST, MOST), ("Div", ["_", "c"], {}), -1, "Div on int64"),
        ((1, 9), ("Mod", ["_", "c"], {}), 2, "the operator Mod"),
        ((1, 9), ("ReduceSum", ["_", "axis"], {}), 2, "ReduceSum on int64"),
        ((1, 9), ("Cast", ["_"], {"to": TensorProto.UINT8}), 0, "a Cast to uint8"),
        ((1, 9), ("Cast", ["_"], {"to": TensorProto.FLOAT16}), 0, "a Cast to float16"),
        ((1, 9), ("Cast", ["_"], {"to": 0}), 0, "a Cast to undefined"),
        ((9, 1), ("Identity", ["_"], {}), 0, "which limit wins"),
    ],
)
def test_what_may_wrap_or_not_fit_is_refused(interval: tuple[int, int], then: Node, known: int, words: str) -> None:
    """One integer more than the type holds is refused, as are operators whose engines differ on integers."""
    nodes, constants = clipped(*interval)
    with pytest.raises(ProofError, match=words):
        derive([*nodes, then], c=known, axis=np.array([1]), **constants)


@pytest.mark.parametrize(
    "nodes",
    [
        [("Add", ["i", "one"], {})],
        [("Clip", ["i", "zero"], {}), ("Add", ["_", "one"], {})],
        [("Clip", ["i", "", "one"], {}), ("Sub", ["_", "one"], {})],
        [("Abs", ["i"], {})],
        [("Neg", ["i"], {})],
        [("Clip", ["i", "zero"], {})],
        [("Clip", ["i", "", "one"], {})],
        [("Mul", ["i", "i"], {})],
        [("Min", ["i", "one"], {})],
    ],
)
def test_a_wrapped_or_unbounded_code_reads_no_table(nodes: list[Node]) -> None:
    """Codes that may have wrapped, or that one end bounds, never reach a Gather."""
    with pytest.raises(ProofError):
        derive([*nodes, ("Gather", ["table", "_"], {})], zero=0, one=1, table=np.arange(4.0))


def test_int32_wraps_at_its_own_width() -> None:
    """The bounds are those of the tensor's width, not of the widest."""
    nodes: list[Node] = [("Clip", ["i", "low", "high"], {}), ("Cast", ["_"], {"to": INT})]
    known = {"low": 0, "high": 2**31 - 2, "one": np.int32(1), "two": np.int32(2)}
    assert derive([*nodes, ("Add", ["_", "one"], {})], **known).high.max() == 2**31 - 1
    with pytest.raises(ProofError, match="may not fit int32"):
        derive([*nodes, ("Add", ["_", "two"], {})], **known)


@pytest.mark.parametrize(
    "limit, to, fits",
    [
        (2.0**63, LONG, False),
        (np.nextafter(2.0**63, 0), LONG, True),
        (-(2.0**63), LONG, True),
        (np.nextafter(-(2.0**63), -np.inf), LONG, False),
        (2.0**31 - 0.5, INT, True),
        (2.0**31, INT, False),
        (-(2.0**31) - 0.5, INT, True),
        (-(2.0**31) - 1.0, INT, False),
        (np.inf, LONG, False),
        (-np.inf, INT, False),
    ],
)
def test_floats_become_integers_only_within_the_type(limit: float, to: int, *, fits: bool) -> None:
    """A float is cast to an integer up to the last float whose truncation the type holds."""
    nodes: list[Node] = [
        ("IsNaN", ["x"], {}),
        ("Where", ["_", "zero", "x"], {}),
        ("Clip", ["_", "low", "high"], {}),
        ("Cast", ["_"], {"to": to}),
    ]
    known = {"zero": 0.0, "low": min(limit, 0.0), "high": max(limit, 0.0)}
    if fits:
        box = derive(nodes, **known)
        assert int(limit) in (box.low.min(), box.high.max())
    else:
        with pytest.raises(ProofError, match="may not fit"):
            derive(nodes, **known)


@pytest.mark.parametrize("op", ["Add", "Less", "Where", "Concat", "Min", "Equal", "Clip"])
def test_operands_of_two_types_are_refused(op: str) -> None:
    """NumPy would promote one of them; the operator set has no such form."""
    operands = {"Where": ["cond", "i", "x"], "Clip": ["i", "c", "c"]}.get(op, ["i", "x"])
    attributes = {"axis": 1} if op == "Concat" else {}
    with pytest.raises(ProofError, match="of one type"):
        derive([(op, operands, attributes)], cond=np.array([True, False]), c=1.0)


def test_a_box_holds_whole_integers_for_python_to_compare() -> None:
    """2^53 + 1 stays 2^53 + 1: no end of an integer passes through a float."""
    nodes, constants = clipped(2**53 + 1, 2**53 + 1)
    box = derive([*nodes, ("Identity", ["_"], {})], **constants)
    assert int(box.low.flat[0]) == int(box.high.flat[0]) == 2**53 + 1
    assert onnx.TensorProto.INT64 == LONG
