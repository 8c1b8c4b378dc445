"""`batchproof verify FILE.onnx` on files of every kind, hostile ones too: a finding or one sentence, within its bounds."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from batchproof.service.__main__ import main
from tests.varying import elementwise, save

FLOAT = TensorProto.FLOAT
node = helper.make_node
info = helper.make_tensor_value_info
ROWS_OF_4 = info("x", FLOAT, ["rows", 4])
ANY = info("y", FLOAT, None)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare no longer than must be."""
    monkeypatch.setattr("batchproof.service.cli.verify.BUDGET_S", 0.0)


def written(
    folder: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto] | None = None,
    outputs: list[onnx.ValueInfoProto] | None = None,
    **constants: Any,
) -> Path:
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    made = helper.make_graph(nodes, "g", inputs or [ROWS_OF_4], outputs or [ANY], stored)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=8)
    return save(model.SerializeToString(), folder / "model.onnx")


def verify(*arguments: object) -> int:
    # A machine that is busy with other tests may need longer than the usual limit.
    return main(["verify", "--device", "cpu", "--timeout", "120", *map(str, arguments)])


def transposed(folder: Path, x: list[Any], s: list[Any]) -> Path:
    nodes = [node("Transpose", ["s"], ["st"], perm=[1, 0]), node("Add", ["x", "st"], ["y"])]
    return written(folder, nodes, [info("x", FLOAT, x), info("s", FLOAT, s)])


def test_batch_axis_may_stand_at_any_place(tmp_path: Path) -> None:
    """Where one name stands first in an input and second in another, it is the batch in both."""
    assert verify(transposed(tmp_path, ["batch", 4], [4, "batch"])) == 0


@pytest.mark.parametrize("label", ["n", "x.1"])
def test_batch_axis_can_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], label: str) -> None:
    """An axis that is not the first is the batch where --batch says so, and the refusal without it names the option."""
    path = written(tmp_path, [node("Relu", ["x"], ["y"])], [info("x", FLOAT, [4, "n"])])
    assert verify(path) == 2
    assert "or, if it is the batch axis, say so: --batch n" in capsys.readouterr().err
    assert verify(path, "--batch", label) == 0
    assert verify(path, "--batch", "m") == 2
    assert "--batch m: the graph has no such free axis; free are x.1, n." in capsys.readouterr().err


def test_difference_along_a_moved_batch_axis_is_found(tmp_path: Path) -> None:
    """A graph that mixes the columns of [4, batch] is found out where the columns are the rows of the batch."""
    nodes = [node("ReduceMean", ["x"], ["m"], axes=[1]), node("Sub", ["x", "m"], ["y"])]
    path = written(tmp_path, nodes, [info("x", FLOAT, [4, "n"])])
    assert verify(path, "--batch", "n") == 1


def test_unknown_shape_can_be_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An input whose shape the file leaves out gets it by --shape; the refusal without it says how."""
    path = written(tmp_path, [node("Relu", ["x"], ["y"])], [info("x", FLOAT, None)])
    assert verify(path) == 2
    assert "--shape x=rows,4, for example" in capsys.readouterr().err
    assert verify(path, "--shape", "x=rows,3") == 0
    assert verify(path, "--shape", "y=rows,3") == 2
    assert "--shape y: the graph has no such input" in capsys.readouterr().err


def test_sequence_of_tensors_is_compared(tmp_path: Path) -> None:
    """Each tensor of a sequence is an output of its own: one that mixes rows is found beside one that does not."""
    sequence = [helper.make_tensor_sequence_value_info("y", FLOAT, None)]
    assert verify(written(tmp_path, [node("SequenceConstruct", ["x", "x"], ["y"])], outputs=sequence)) == 0
    nodes = [
        node("ReduceMean", ["x"], ["m"], axes=[0]),
        node("Sub", ["x", "m"], ["mixed"]),
        node("SequenceConstruct", ["x", "mixed"], ["y"]),
    ]
    assert verify(written(tmp_path, nodes, outputs=sequence)) == 1


def test_sequence_with_an_entry_for_each_row_is_compared(tmp_path: Path) -> None:
    """A sequence as long as the batch is compared entry by entry: one whose entries depend on the others is found."""
    sequence = [helper.make_tensor_sequence_value_info("y", FLOAT, None)]
    split = node("SplitToSequence", ["z"], ["y"], axis=0, keepdims=0)
    assert verify(written(tmp_path, [node("Identity", ["x"], ["z"]), split], outputs=sequence)) == 0
    mixed = [node("ReduceMean", ["x"], ["m"], axes=[0]), node("Sub", ["x", "m"], ["z"]), split]
    assert verify(written(tmp_path, mixed, outputs=sequence)) == 1


def test_map_of_numbered_classes_is_compared(tmp_path: Path) -> None:
    """Maps by whole numbers, as exporters of scikit-learn write probabilities, are compared column by column."""
    kind = onnx.TypeProto()
    kind.sequence_type.elem_type.map_type.key_type = TensorProto.INT64
    kind.sequence_type.elem_type.map_type.value_type.tensor_type.elem_type = FLOAT
    maps = [onnx.ValueInfoProto(name="y", type=kind)]
    zipped = node("ZipMap", ["z"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[3, 1, 20, 7])
    assert verify(written(tmp_path, [node("Identity", ["x"], ["z"]), zipped], outputs=maps)) == 0
    mixed = [node("ReduceMean", ["x"], ["m"], axes=[0]), node("Sub", ["x", "m"], ["z"]), zipped]
    assert verify(written(tmp_path, mixed, outputs=maps)) == 1


def loop(folder: Path, trips: int) -> Path:
    body = helper.make_graph(
        [node("Identity", ["go"], ["go_on"]), node("Tanh", ["v"], ["next"])],
        "body",
        [info("i", TensorProto.INT64, []), info("go", TensorProto.BOOL, []), info("v", FLOAT, None)],
        [info("go_on", TensorProto.BOOL, []), info("next", FLOAT, None)],
    )
    return written(folder, [node("Loop", ["trips", "yes", "x"], ["y"], body=body)], trips=np.int64(trips), yes=np.True_)


def test_endless_graph_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph that never answers is one sentence once the time is up."""
    monkeypatch.setattr("batchproof.service.cli.verify.GRACE_S", 0.5)
    started_s = time.monotonic()
    assert verify(loop(tmp_path, 2**62), "--timeout", 1) == 2
    assert time.monotonic() - started_s < 10
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "batchproof verify: it took more than 1.5 s before it was done; --timeout SECONDS allows more"


def test_slow_graph_shows_what_was_compared(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A graph that is too slow for the whole check gives a table of what was compared, and is not called verified."""
    path = loop(tmp_path, 20_000)
    assert verify(path, "--timeout", 4, "--rows", 5000) == 2
    printed = capfd.readouterr()
    assert "\nundecided: no bit changed so far: " in printed.out
    assert "not decided within 4 s; --timeout SECONDS allows more" in printed.err
    assert " rows run in 3 s\n" in printed.err


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "an input of 10^10 numbers": ({"inputs": [info("x", FLOAT, ["n", 10**10])]}, "has 40000000000 bytes a row"),
    "an input of 2^62 numbers": ({"inputs": [info("x", FLOAT, ["n", 2**62])]}, "bytes a row"),
    "30 axes": ({"inputs": [info("x", FLOAT, ["n", *[2] * 30])]}, "has 31 axes; at most 16 can be checked"),
    "10 000 inputs": (
        {"inputs": [ROWS_OF_4, *(info(f"x{place}", FLOAT, ["n"]) for place in range(10_000))]},
        "the graph has 10001 inputs; at most 1000 can be checked",
    ),
    "a constant input of 10^10": (
        {"inputs": [ROWS_OF_4, info("c", FLOAT, [10**10])]},
        "input 'c' has 40000000000 bytes; at most",
    ),
    "gigabytes for a row": (
        {
            "nodes": [node("Tile", ["x", "times"], ["big"]), node("ReduceMax", ["big"], ["y"], axes=[1])],
            "times": np.array([1, 100_000_000]),
        },
        "",
    ),
    "the least whole number by -1": (
        {
            "nodes": [node("Div", ["least", "minus"], ["q"]), node("Cast", ["q"], ["f"], to=FLOAT), node("Add", ["x", "f"], ["y"])],
            "least": np.array([-(2**63)]),
            "minus": np.array([-1]),
        },
        "it ended the process (SIGFPE)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_graph_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """A graph that asks for too much, or ends its process, is one sentence and exit status 2."""
    parts, said = HOSTILE[name]
    path = written(tmp_path, **{"nodes": [node("Relu", ["x"], ["y"])], **parts})
    assert verify(path, "--memory", 1) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("batchproof verify: ")
    assert said in line


def test_file_from_outside_is_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Weights in a file beside the graph's folder are not read: one sentence, exit status 2."""
    path = written(tmp_path, [node("Add", ["x", "w"], ["y"])], w=np.zeros(4, np.float32))
    model = onnx.load_model_from_string(path.read_bytes())
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "../../../../etc/passwd"), ("offset", "0"), ("length", "16")):
        weight.external_data.add(key=key, value=value)
    assert verify(save(model.SerializeToString(), path)) == 2
    assert "the engine cannot load the graph" in capsys.readouterr().err


@pytest.mark.parametrize("keep", [0, 1, 10, 50, -20, -1])
def test_cut_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], keep: int) -> None:
    """A file that is cut anywhere is one sentence."""
    path = save(elementwise("Relu")[:keep], tmp_path / "cut.onnx")
    assert verify(path) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_names_move_no_cursor(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Names of the file are printed without what a terminal obeys, and are cut where they are long."""
    name = "\x1b[2J\n\u202e" + "n" * 100_000
    nodes = [node("Relu", ["x"], [name]), node("Shape", ["x"], [f"shape{name}"])]
    outputs = [info(name, FLOAT, None), info(f"shape{name}", TensorProto.INT64, None)]
    assert verify(written(tmp_path, nodes, outputs=outputs)) == 0
    printed = "".join(capfd.readouterr())
    assert printed.replace("\n", "").isprintable()
    assert len(printed) < 10_000
