"""`batchproof verify`: 0 where no bit changed, 1 where some did, 2 and one sentence where it cannot be asked."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from batchproof.service.__main__ import main
from batchproof.service.bundle import reader as bundle
from batchproof.service.inference import model
from batchproof.service.inference.engine import EngineOptions
from batchproof.service.invariance.audit import Audit
from batchproof.service.invariance.probe_rows import draws_for
from batchproof.service.invariance.violations import Records
from batchproof.training.preprocessing.onnx_graph import Graph
from tests.bundles import make_bundle, network
from tests.varying import batch_mean, elementwise, graph, linear, save


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare no longer than must be."""
    monkeypatch.setattr("batchproof.service.cli.verify.BUDGET_S", 0.0)


def verify(*arguments: object) -> int:
    # A machine that is busy with other tests may need longer than the usual limit.
    return main(["verify", "--device", "cpu", "--timeout", "120", *map(str, arguments)])


@pytest.mark.parametrize("below", ["", "flowers", "flowers/2"])
def test_bundle_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str], below: str) -> None:
    """A folder of one model, the model or a version of it is verified; the newest version is what is meant."""
    make_bundle(tmp_path, version=1)
    make_bundle(tmp_path, version=2)

    assert verify(tmp_path / below) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("flowers version 2 · float32 · sha256 ")
    assert "CPUExecutionProvider · threads: 1" in printed
    assert "\nverified: every row had the same bits alone and in every batch" in printed


def leaking() -> Graph:
    """Return the usual graph with the batch's mean taken off its scores."""
    made = network("regression", seed=0)
    head = next(node for node in made.nodes if node.name == "head")
    output = next(node for node in made.nodes if node.name == "value")
    mean = made.add("ReduceMean", [head.output[0]], "mean", axes=[0])
    shifted = made.add("Sub", [head.output[0], mean], "shifted")
    made.nodes.remove(output)
    made.nodes.append(helper.make_node("Identity", [shifted], ["value"], name="value"))
    return made


def test_bundle_that_leaks_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bundle whose rows change gives 1 and a table of shares, sizes and outputs."""
    folder = make_bundle(tmp_path, task="regression", graph=leaking())

    assert verify(folder) == 1
    printed = capsys.readouterr().out
    assert "every run padded to 64 rows" in printed
    assert "outputs that change: 'value' by up to" in printed
    assert "\nfailed: rows change with their batch" in printed


def test_json_is_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--json prints what was found as one object, and the exit status stays."""
    path = save(batch_mean(), tmp_path / "mean.onnx")

    assert verify(path, "--json", "--policy", "report") == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["subject"], found["status"], found["policy"]) == (str(path), "reported", "report")
    assert found["rows_changed"] > 0
    assert found["tried"][0]["first"]["output"] == "y"


def test_foreign_file_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A graph that the engine batches safely gives 0; operators on rows of a whole vector hold on every processor."""
    path = save(graph([helper.make_node("Relu", ["x"], ["y"])], {}, ["rows", 16]), tmp_path / "relu.onnx")

    assert verify(path, "--rows", 100, "--threads", 2) == 0
    assert "verified: " in capsys.readouterr().out


def test_session_configuration_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An option of the engine is part of what is verified, and is told."""
    path = save(linear(), tmp_path / "linear.onnx")
    verify(path, "--json", "--session-config", "session.disable_prepacking=1")

    assert json.loads(capsys.readouterr().out)["entries"] == {"session.disable_prepacking": "1"}


def many_inputs() -> bytes:
    """Return a graph with an input of every kind, a constant one, and an output without a batch axis."""
    kinds = {"f": TensorProto.FLOAT16, "d": TensorProto.DOUBLE, "i": TensorProto.INT32, "b": TensorProto.BOOL}
    inputs = [helper.make_tensor_value_info(name, kind, ["n", "seq"]) for name, kind in kinds.items()]
    inputs += [
        helper.make_tensor_value_info("s", TensorProto.STRING, [None, 2]),
        helper.make_tensor_value_info("scale", TensorProto.DOUBLE, [1]),
    ]
    nodes = [helper.make_node("Cast", [name], [f"{name}_d"], to=TensorProto.DOUBLE) for name in ("f", "i", "b")]
    nodes += [
        helper.make_node("Sum", ["d", "f_d", "i_d", "b_d"], ["sum"]),
        helper.make_node("Mul", ["sum", "scale"], ["scaled"]),
        helper.make_node("Identity", ["s"], ["words"]),
        helper.make_node("Shape", ["d"], ["shape"]),
    ]
    outputs = [
        helper.make_tensor_value_info("scaled", TensorProto.DOUBLE, None),
        helper.make_tensor_value_info("words", TensorProto.STRING, None),
        helper.make_tensor_value_info("shape", TensorProto.INT64, None),
    ]
    made = helper.make_graph(nodes, "many", inputs, outputs)
    whole = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(whole.SerializeToString())


@pytest.mark.parametrize("dims", [["seq=4"], ["f.1=4", "d.1=4", "i.1=4", "b.1=4"]])
def test_all_kinds_of_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str], dims: list[str]) -> None:
    """Floats, integers, booleans, strings and constants are drawn; outputs that do not follow the batch are named."""
    path = save(many_inputs(), tmp_path / "many.onnx")

    assert verify(path, *(part for dim in dims for part in ("--dim", dim))) == 0
    assert "not compared: shape" in capsys.readouterr().err


def test_integers_reach_as_far_as_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Integers, which may be indexes, are 0 and 1 unless told; too large ones are the engine's refusal, in a sentence."""
    table = np.arange(10).reshape(5, 2)
    nodes = [helper.make_node("Gather", ["table", "x"], ["y"], axis=0)]
    path = save(graph(nodes, {"table": table}, ["rows"], TensorProto.INT64), tmp_path / "gather.onnx")

    assert verify(path) == 0
    assert verify(path, "--int-below", 5) == 0
    assert verify(path, "--int-below", 500) == 2
    assert "random rows: the engine failed" in capsys.readouterr().err


def test_maps_are_compared(tmp_path: Path) -> None:
    """A sequence of maps, as exporters of scikit-learn write probabilities, is compared row by row."""
    nodes = [helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_strings=["a", "b", "c"])]
    kind = onnx.TypeProto()
    kind.sequence_type.elem_type.map_type.key_type = TensorProto.STRING
    kind.sequence_type.elem_type.map_type.value_type.tensor_type.elem_type = TensorProto.FLOAT
    made = helper.make_graph(
        nodes,
        "maps",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 3])],
        [onnx.ValueInfoProto(name="y", type=kind)],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    whole = helper.make_model(made, opset_imports=opsets, ir_version=8)

    assert verify(save(whole.SerializeToString(), tmp_path / "maps.onnx")) == 0


def test_random_graph_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A graph that is random changes at batch 1 too, and the cause is told."""
    nodes = [helper.make_node("RandomNormalLike", ["x"], ["y"])]

    assert verify(save(graph(nodes, {}, ["rows", 3]), tmp_path / "random.onnx")) == 1
    assert "is random" in capsys.readouterr().err


@pytest.mark.parametrize(
    "shape, arguments, said",
    [
        ([1, 3], [], "no input has a free first axis"),
        (["rows", "seq", 3], [], "--dim seq=8"),
        (["rows", None, 3], [], "--dim x.1=8"),
        (["rows", 3], ["--dim", "rows=4"], "no input has a free first axis"),
    ],
)
def test_graph_without_a_batch_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shape: list[object], arguments: list[str], said: str
) -> None:
    """What cannot be batched is refused with a sentence that says what to do, and exit status 2."""
    path = save(graph([helper.make_node("Relu", ["x"], ["y"])], {}, shape), tmp_path / "model.onnx")

    assert verify(path, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("batchproof verify: ")
    assert said in line


def test_reduced_batch_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A graph with one answer for the whole batch has nothing to compare by row."""
    nodes = [helper.make_node("ReduceMean", ["x"], ["y"], axes=[0], keepdims=0)]

    assert verify(save(graph(nodes, {}, ["rows", 5]), tmp_path / "reduced.onnx")) == 2
    assert "none of the outputs (y)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name, said",
    [
        ("absent", "neither a folder"),
        ("notes.txt", "notes.txt is not an ONNX file, or it is cut off"),
        (".", "no bundle"),
    ],
)
def test_wrong_path_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, said: str) -> None:
    """Nothing there, no graph, no bundle: one sentence, exit status 2."""
    (tmp_path / "notes.txt").write_text("not a graph")

    assert verify(tmp_path / name) == 2
    assert said in capsys.readouterr().err


def test_several_models_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder of several models does not say which one is meant."""
    make_bundle(tmp_path, name="flowers")
    make_bundle(tmp_path, name="trees")

    assert verify(tmp_path) == 2
    assert "name one of" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--threads", "-1"],
        ["--rows", "x"],
        ["--rows", "0"],
        ["--run-rows", "0"],
        ["--dim", "n"],
        ["--session-config", "="],
    ],
)
def test_wrong_argument_is_refused(tmp_path: Path, arguments: list[str]) -> None:
    """Arguments are checked before anything runs: exit status 2."""
    with pytest.raises(SystemExit) as left:
        verify(tmp_path, *arguments)

    assert left.value.code == 2


def test_length_of_no_axis_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A length for an axis that the graph does not have, or that a bundle cannot have, is no length to pass over."""
    file = save(graph([helper.make_node("Relu", ["x"], ["y"])], {}, ["rows", "width", 3]), tmp_path / "x.onnx")

    assert verify(file, "--dim", "widht=3") == 2
    assert capsys.readouterr().err == (
        "batchproof verify: --dim widht: the graph has no such free axis; free are x.0, rows, x.1, width. "
        "Did you mean 'width'?\n"
    )
    assert verify(file, "--dim", "width=3", "--dim", "x.2=3") == 2
    assert verify(file, "--dim", "x.1=3") == 0
    assert verify(make_bundle(tmp_path), "--dim", "width=3") == 2
    assert "--dim is for FILE.onnx" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content, said",
    [
        (b"species,island\n", "is not a record of a violation: it is not JSON"),
        (b"\xff", "is not a record of a violation: it is not JSON"),
        (b"[1]", "is not a record of a violation: its field format is not"),
        (b"{}", "is not a record of a violation: its field format is not"),
        (b'{"format": "batchproof-violation", "requests": [[{"dtype": "float64", "shape": [1], "hex": "zz"}]]}',
         "the record's requests cannot be read"),
        (None, "No such file or directory"),
    ],
)  # fmt: skip
def test_replay_of_something_else_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, said: str
) -> None:
    """A file that is no record, or is not there, is one sentence that names it."""
    record = tmp_path / "record"
    if content is not None:
        record.write_bytes(content)

    assert verify(make_bundle(tmp_path), "--replay", record) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert "Errno" not in told
    assert str(record) in told or "requests cannot be read" in told


@pytest.mark.parametrize("command", [["verify", "{}"], ["predict", "{}", "{rows}", "{out}"]])
def test_refusal_of_a_bundle_names_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    """A checksum that does not fit says whose it is: the newest version was meant without being named."""
    folder = make_bundle(tmp_path, version=3)
    (folder / "model.onnx").write_bytes(b"other")
    rows = tmp_path / "rows.csv"
    rows.write_text("length_mm\n1\n")

    assert main([part.format(folder.parent, rows=rows, out=tmp_path / "out.csv") for part in command]) == 2
    assert f"{folder}: model.onnx has 5 bytes" in capsys.readouterr().err


def test_replay_of_a_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A record of the audit runs again on a bundle: 1 where it is reproduced, 0 where it is not."""
    bad = make_bundle(tmp_path / "bad", task="regression", graph=leaking())
    good = make_bundle(tmp_path / "good", task="regression")
    read = bundle.read(bad)
    loaded = model.load(read, EngineOptions(device="cpu"), 64)
    requests = [draws_for(read)(1)]
    violation = Audit(1, seed=0).audit_batch(loaded.runner, requests, loaded.runner.run(requests))
    assert violation is not None
    record = Records(tmp_path / "records").write(violation, loaded.fingerprint)

    assert verify(bad, "--replay", record) == 1
    assert "reproduced: output 'value'" in capsys.readouterr().out
    assert verify(good, "--replay", record) == 0
    assert "not reproduced" in capsys.readouterr().out
    assert verify(save(elementwise("Relu"), tmp_path / "x.onnx"), "--replay", record) == 2
