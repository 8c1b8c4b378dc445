"""A file of bad faith is refused in one sentence, soon, and in bounded memory; it never ends the process."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from batchproof.training.cli import prove as command
from batchproof.training.prove import ProofError, limits, prove

MEMORY_BYTES = 3 * 2**30  # of address space, libraries included
SECONDS = 20.0
DOUBLE, LONG = TensorProto.DOUBLE, TensorProto.INT64
Stored = dict[str, Any]


def info(name: str, kind: int = DOUBLE, shape: Sequence[int | str] | None = ("rows", 4)) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model(
    nodes: Sequence[onnx.NodeProto],
    stored: Stored | None = None,
    inputs: Sequence[onnx.ValueInfoProto] = (info("x"),),
    outputs: Sequence[onnx.ValueInfoProto] = (info("y"),),
    opsets: Sequence[tuple[str, int]] = (("", 17),),
) -> onnx.ModelProto:
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in (stored or {}).items()]
    graph = helper.make_graph(nodes, "hostile", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(*each) for each in opsets], ir_version=8)


def node(op: str, *operands: str, to: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, list(operands), [to], name=to, **attributes)


def identity(width: int, shape: Sequence[int | str] | None = None, kind: int = DOUBLE) -> onnx.ModelProto:
    shape = ["rows", width] if shape is None else shape
    return model([node("Identity", "x")], inputs=[info("x", kind, shape)], outputs=[info("y", kind, None)])


def chain(op: str, count: int) -> onnx.ModelProto:
    """Double a tensor again and again."""
    names = ["x", *(f"n{number}" for number in range(count))]
    nodes = [helper.make_node("Concat", [first, first], [then], axis=1) for first, then in pairwise(names)]
    return model([*nodes, node(op, names[-1])])


def loop() -> onnx.ModelProto:
    body = helper.make_graph(
        [node("Identity", "go", to="go_on"), node("Identity", "v", to="w")],
        "body",
        [info("k", LONG, []), info("go", TensorProto.BOOL, []), info("v", DOUBLE, None)],
        [info("go_on", TensorProto.BOOL, []), info("w", DOUBLE, None)],
    )
    return model([node("Loop", "trips", "go", "x", body=body)], {"trips": 2**62, "go": True})


def stored_tensor(**fields: Any) -> onnx.ModelProto:
    changed = model([node("Add", "x", "c")])
    tensor = TensorProto(name="c", data_type=fields.pop("data_type", DOUBLE))
    for name, value in fields.items():
        if isinstance(value, bytes | int):
            setattr(tensor, name, value)
        else:
            getattr(tensor, name).extend(value)
    changed.graph.initializer.append(tensor)
    return changed


def wide(count: int) -> onnx.ModelProto:
    """Clip codes, each to an interval of its own of a great table, and look all of them up."""
    most = np.arange(2**19, 2**19 + count)
    nodes = [
        node("Max", "i", "zero", to="a"),
        node("Min", "a", "most", to="b"),
        node("Gather", "table", "b", axis=0),
    ]
    stored = {"zero": np.array(0), "most": most, "table": np.zeros(2**20)}
    return model(nodes, stored, [info("i", LONG, ["rows", count])])


def flat_axes(count: int) -> onnx.ModelProto:
    return model([node("Unsqueeze", "x", "axes")], {"axes": np.arange(2, 2 + count)})


def expanded(shape: Sequence[int]) -> onnx.ModelProto:
    return model([node("Expand", "c", "shape", to="e"), node("Add", "x", "e")], {"c": 1.0, "shape": np.array(shape)})


def outer() -> onnx.ModelProto:
    nodes = [node("Unsqueeze", "x", "a", to="p"), node("Unsqueeze", "x", "b", to="q"), node("Add", "p", "q")]
    return model(nodes, {"a": np.array([1]), "b": np.array([2])}, [info("x", DOUBLE, ["rows", 2**19])])


def heavy_work() -> onnx.ModelProto:
    """Look a great constant over again and again."""
    nodes = [node("Add", "c", "c", to="n0"), *(node("Max", "c", f"n{k}", to=f"n{k + 1}") for k in range(400))]
    return model([*nodes, node("Gather", "c", "one", to="y")], {"c": np.arange(1e6), "one": np.array([0])})


def repeated(field: bytes) -> bytes:
    """Return a file whose graph is one field again and again."""
    graph = field * 10**7
    length, size = b"", len(graph)
    while size:
        length += bytes([size % 128 + 128 * (size >= 128)])
        size //= 128
    return b"\x3a" + length + graph


def lowered(name: str, value: int) -> onnx.ModelProto:
    changed = identity(4)
    setattr(changed, name, value)
    return changed


def named(name: str) -> onnx.ModelProto:
    return model([node("Relu", name)], inputs=[info(name)])


def beside(field: str) -> onnx.ModelProto:
    """Return a graph with something beside it, or in it, that is no plain graph."""
    made = identity(4)
    if field == "functions":
        body = [helper.make_node("Identity", ["a"], ["b"])]
        made.functions.append(helper.make_function("own", "F", ["a"], ["b"], body, [helper.make_opsetid("", 17)]))
    elif field == "training_info":
        made.training_info.add()
    else:
        made.graph.sparse_initializer.add()
    return made


def narrow_inside() -> onnx.ModelProto:
    """Compute with float32 before the output: Add is the only operator that reads it."""
    nodes = [
        node("IsNaN", "x", to="lost"),
        node("Where", "lost", "low", "x", to="w"),
        node("Clip", "w", "low", "high", to="c"),
        helper.make_node("Cast", ["c"], ["n"], to=TensorProto.FLOAT),
        node("Add", "n", "zero", to="m"),
        node("Add", "m", "zero"),
    ]
    stored = {"low": 0.0, "high": 8.0, "zero": np.float32(0)}
    return model(nodes, stored, outputs=[info("y", TensorProto.FLOAT)])


def integers(op: str, a: int, b: int) -> onnx.ModelProto:
    """Apply an operator to two constants, the result added to codes."""
    nodes = [node(op, "a", "b", to="q"), node("Clip", "i", "low", "high", to="k"), node("Add", "k", "q")]
    stored = {"a": a, "b": b, "low": 0, "high": 3}
    return model(nodes, stored, [info("i", LONG)], [info("y", LONG)])


CASES: dict[str, tuple[Callable[[], onnx.ModelProto | bytes], str]] = {
    "10^10 wide": (lambda: identity(10**10), "fixed width"),
    "2^62 wide": (lambda: identity(2**62), "fixed width"),
    "of negative width": (lambda: identity(-5), "fixed width"),
    "of no width": (lambda: identity(0), "fixed width"),
    "of free width": (lambda: identity(0, ["rows", "width"]), "fixed width"),
    "of 30 axes": (lambda: identity(0, ["rows", *[2] * 30]), "must have the shape"),
    "of no axis": (lambda: identity(0, []), "must have the shape"),
    "of strings": (lambda: identity(4, kind=TensorProto.STRING), "an input of string"),
    "of float16": (lambda: identity(4, kind=TensorProto.FLOAT16), "an input of float16"),
    "of uint8": (lambda: identity(4, kind=TensorProto.UINT8), "an input of uint8"),
    "of complex numbers": (lambda: identity(4, kind=TensorProto.COMPLEX64), "an input of complex64"),
    "of an unknown type": (lambda: identity(4, kind=999), "an input of type 999"),
    "of float32": (lambda: identity(4, kind=TensorProto.FLOAT), "an input of float32"),
    "a sequence": (
        lambda: model([node("Identity", "x")], inputs=[helper.make_tensor_sequence_value_info("x", DOUBLE, None)]),
        "must have the shape",
    ),
    "10 000 inputs": (
        lambda: model([node("Identity", "x0")], inputs=[info(f"x{number}") for number in range(10_000)]),
        "10000 inputs",
    ),
    "inputs of different rows": (
        lambda: model([node("Add", "x", "z")], inputs=[info("x"), info("z", DOUBLE, ["others", 4])]),
        "must have the same name",
    ),
    "10 million empty nodes": (lambda: repeated(b"\x0a\x00"), "more than 200000 fields"),
    "10 million empty constants": (lambda: repeated(b"\x2a\x00"), "more than 200000 fields"),
    "10 million numbers one by one": (
        lambda: stored_tensor(dims=[3_500_000], int32_data=[2**30] * 3_500_000, data_type=TensorProto.INT32),
        "something else than the raw data",
    ),
    "2 million operands": (lambda: model([node("Min", *["x"] * 2_000_000)]), "2000000 operands"),
    "a great constant one by one": (
        lambda: model([node("Neg", "c"), node("Add", "x", "c", to="z")], {"c": np.zeros(2**21)}),
        "at most 1048576 are supported",
    ),
    "1 000 operands of a million numbers": (
        lambda: model([node("Max", *["c"] * 1000)], {"c": np.zeros(2**20)}),
        "the nodes so far read more",
    ),
    "100 000 nodes": (lambda: model([node("Identity", "x", to=f"n{k}") for k in range(100_000)]), "100000 nodes"),
    "a Loop without end": (loop, "the operator Loop"),
    "a tensor doubled 40 times": (lambda: chain("Identity", 40), "elements for each row"),
    "60 axes": (lambda: flat_axes(60), "at most 8 are supported"),
    "300 axes": (lambda: flat_axes(300), "300 numbers"),
    "expanded to 2^40": (lambda: expanded([2**40]), "elements for each row"),
    "expanded to 2^62 by 2^62": (lambda: expanded([2**62, 2**62]), "too large"),
    "expanded to nothing": (lambda: expanded([0]), "an empty tensor"),
    "expanded to -1": (lambda: expanded([-1]), "does not fit its operands"),
    "an outer sum of 2^38": (outer, "elements for each row"),
    "400 looks at a million numbers": (heavy_work, "the tensors so far have more than"),
    "100 000 intervals of codes": (lambda: wide(100_000), "intervals of codes, which"),
    "a constant of 2^62 numbers without data": (lambda: stored_tensor(dims=[2**62]), "must hold its data once"),
    "a constant of 2^62 numbers": (lambda: stored_tensor(dims=[2**62], raw_data=b"01234567"), "does not fit"),
    "a constant of 200 000 axes": (lambda: stored_tensor(dims=[1] * 200_000, raw_data=b"01234567"), "more than 8 axes"),
    "a constant of negative length": (lambda: stored_tensor(dims=[-1], raw_data=b"01234567"), "empty"),
    "a constant of no length": (lambda: stored_tensor(dims=[0], raw_data=b""), "empty"),
    "a constant with half a number": (lambda: stored_tensor(dims=[1], raw_data=b"0123"), "does not fit"),
    "a constant with its data twice": (
        lambda: stored_tensor(dims=[1], raw_data=b"01234567", double_data=[1.0]),
        "its data once",
    ),
    "a constant of texts": (
        lambda: stored_tensor(dims=[1], data_type=TensorProto.STRING, string_data=[b"a"]),
        "a constant of string",
    ),
    "a bool that is 2": (
        lambda: stored_tensor(dims=[1], data_type=TensorProto.BOOL, raw_data=b"\x02"),
        "does not fit its type",
    ),
    "data in another file": (lambda: stored_tensor(dims=[1], data_location=TensorProto.EXTERNAL), "outside the file"),
    "a constant named as an input": (lambda: model([node("Add", "x", "x")], {"x": 1.0}), "is defined twice"),
    "two inputs of one name": (lambda: model([node("Add", "x", "x")], inputs=[info("x")] * 2), "is defined twice"),
    "a local function": (lambda: beside("functions"), "local functions, training graphs and sparse constants"),
    "a training graph": (lambda: beside("training_info"), "local functions, training graphs and sparse constants"),
    "a sparse constant": (
        lambda: beside("sparse_initializer"),
        "local functions, training graphs and sparse constants",
    ),
    "an output that nothing computes": (lambda: model([node("Identity", "x", to="z")], outputs=[info("x")]), "no node"),
    "two results of one node": (
        lambda: model([helper.make_node("Identity", ["x"], ["y", "z"])]),
        "exactly one output",
    ),
    "float32 on the way": (narrow_inside, "which is float32; only outputs may be float32"),
    "a tensor without a name": (lambda: model([node("Add", "x", "x", to="")]), "is defined twice"),
    "an operator of another domain": (
        lambda: model([helper.make_node("Evil", ["x"], ["y"], domain="evil")], opsets=[("", 17), ("evil", 1)]),
        "operators of the domain 'evil'",
    ),
    "no operator set": (lambda: model([node("Identity", "x")], opsets=[]), "names 0 versions"),
    "two operator sets": (lambda: model([node("Identity", "x")], opsets=[("", 13), ("ai.onnx", 17)]), "2 versions"),
    "an ancient file": (lambda: lowered("ir_version", 3), "IR version 3"),
    "a name of a million letters": (lambda: named("a" * 10**6), "the operator Relu"),
    "a name with control characters": (lambda: named("\x1b[2J\n"), "the operator Relu"),
    "least over -1": (lambda: integers("Div", -(2**63), -1), "Div on int64"),
    "one over zero": (lambda: integers("Div", 1, 0), "Div on int64"),
    "one modulo zero": (lambda: integers("Mod", 1, 0), "the operator Mod"),
    "the least number doubled": (lambda: integers("Add", -(2**63), -(2**63)), "they would wrap around"),
}
SCRIPT = """
import json, resource, sys, time
from google.protobuf.message import DecodeError
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]), int(sys.argv[1])))
from batchproof.training.prove import ProofError, prove
for path in sys.argv[2:]:
    start = time.monotonic()
    try:
        prove(open(path, "rb").read())
        words = "certified"
    except (ProofError, DecodeError) as error:
        words = str(error)
    print(json.dumps([words, time.monotonic() - start]))
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, float]]:
    """Prove every case in one process of bounded memory; returns what was said and the seconds it took."""
    folder = tmp_path_factory.mktemp("hostile")
    paths = [folder / f"{number}.onnx" for number in range(len(CASES))]
    for path, (make, _) in zip(paths, CASES.values(), strict=True):
        content = make()
        path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    call = [sys.executable, "-c", SCRIPT, str(MEMORY_BYTES), *map(str, paths)]
    ended = subprocess.run(call, capture_output=True, text=True, check=False, timeout=SECONDS * len(CASES))
    assert ended.returncode == 0, ended.stderr
    return dict(zip(CASES, map(json.loads, ended.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_file_is_one_sentence(outcomes: dict[str, tuple[str, float]], name: str) -> None:
    """Each file is refused with the reason, on one line that a terminal can show, in bounded time and memory."""
    words, seconds = outcomes[name]
    assert CASES[name][1] in words
    assert words.isprintable()
    assert len(words) < 400
    assert seconds < SECONDS


@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 1000])
def test_bytes_that_are_no_graph_are_refused(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command says in one sentence what a file is not, and exits with 1 or 2."""
    path = tmp_path / "file.onnx"
    path.write_bytes(content)
    assert command.main([str(path)]) in (1, 2)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_cut_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A graph that ends early is refused at every cut."""
    whole = model([node("Relu", "x")]).SerializeToString()
    path = tmp_path / "file.onnx"
    for cut in range(0, len(whole), 7):
        path.write_bytes(whole[:cut])
        assert command.main([str(path)]) in (1, 2)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("path", ["/dev/zero", "/nowhere/at/all"])
def test_what_is_not_a_regular_file_is_not_read(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A device that never ends, or a path that is not there, is refused before it is read."""
    assert command.main([path]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_file_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file beyond the bound is refused by its size, before it is read, by the command and by the prover."""
    path = tmp_path / "file.onnx"
    with path.open("wb") as file:
        file.truncate(limits.MAX_FILE_BYTES + 1)  # a hole: it takes no room
    assert command.main([str(path)]) == 2
    assert f"{limits.MAX_FILE_BYTES + 1} bytes" in capsys.readouterr().err
    monkeypatch.setattr("batchproof.training.prove.proof.MAX_FILE_BYTES", 10)
    with pytest.raises(ProofError, match="at most 10 are read"):
        prove(b"01234567890")


def test_a_graph_that_the_engine_cannot_load_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the engine does not take a proved graph, the command says so in one sentence and exits with 1."""
    monkeypatch.setattr(command, "prove", lambda _: {})
    path = tmp_path / "file.onnx"
    path.write_bytes(model([node("Evil", "x")]).SerializeToString())
    assert command.main([str(path)]) == 1
    sentence = capsys.readouterr().err
    assert "the engine cannot load the graph" in sentence
    assert len(sentence.splitlines()) == 1


def test_a_name_that_is_not_text_is_refused() -> None:
    """Protobuf hands out bytes where a name is not UTF-8: such a file is refused, whatever name it is."""
    content = model([node("Relu", "x", to="yyyy")]).SerializeToString()
    for name in (b"Relu", b"yyyy", b"rows"):
        with pytest.raises(ProofError, match="not UTF-8"):
            prove(content.replace(name, b"\xff" * len(name)))
