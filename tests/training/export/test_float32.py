"""The exported graph: no batch norm left, the stated versions and names, and the folded network's answers."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from batchproof.service.bundle.graph.check import IR_VERSION, OPSET
from batchproof.service.bundle.signature import Task
from batchproof.service.features.arrays import Arrays
from batchproof.service.inference.engine import Engine
from batchproof.training.export.float32 import export
from batchproof.training.network import weights
from batchproof.training.network.fold import Folded
from batchproof.training.network.parity import ParityError, check_engine
from batchproof.training.network.weights import Weights, maxima_of
from tests.networks import Net, make_net

TASKS: tuple[Task, ...] = ("binary", "multiclass", "regression")


@pytest.fixture
def net(request: pytest.FixtureRequest) -> Net:
    """Return a random folded network for the task that the test names."""
    return make_net(request.param, members=2)


@pytest.mark.parametrize("net", TASKS, indirect=True)
def test_operators(net: Net) -> None:
    """No BatchNormalization is left; the network is Gemm and Relu, and every Gemm has alpha = beta = 1."""
    model = export(net.preprocess, net.folded)
    kinds = [node.op_type for node in model.graph.node]
    assert "BatchNormalization" not in kinds
    assert kinds.count("Gemm") == sum(len(member.layers) for member in net.folded.members)
    assert all(not node.attribute for node in model.graph.node if node.op_type == "Gemm")
    assert (model.opset_import[0].version, model.ir_version) == (OPSET, IR_VERSION) == (17, 8)


@pytest.mark.parametrize("net", TASKS, indirect=True)
def test_inputs_and_outputs(net: Net) -> None:
    """Values come in as float64, codes as int64; answers go out as float32."""
    model = export(net.preprocess, net.folded)
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    assert (kinds["numeric"], kinds["categorical"]) == (onnx.TensorProto.DOUBLE, onnx.TensorProto.INT64)
    outputs = ["value"] if net.folded.output.task == "regression" else ["probabilities", "scores"]
    assert [value.name for value in model.graph.output] == outputs
    assert all(kinds[name] == onnx.TensorProto.FLOAT for name in outputs)


@pytest.mark.parametrize("net", TASKS, indirect=True)
def test_engine_parity(net: Net) -> None:
    """The engine gives the folded float64 network's answers within float32's rounding, in the target's unit."""
    engine = Engine(export(net.preprocess, net.folded).SerializeToString())
    x = np.asarray(net.x, np.float32)
    found = engine.run(Arrays(*net.raw))
    assert check_engine(net.folded, net.folded.scores(x, net.raw.categorical), found) < 1e-4


@pytest.mark.parametrize("net", ["multiclass"], indirect=True)
def test_a_changed_answer_is_found(net: Net) -> None:
    """The parity check names the engine's stage where one score or one probability is off."""
    reference = net.folded.scores(np.asarray(net.x, np.float32), net.raw.categorical)
    found = Engine(export(net.preprocess, net.folded).SerializeToString()).run(Arrays(*net.raw))
    for name, sentence in (
        ("scores", "the engine stage changed"),
        ("probabilities", "the engine's probabilities differ"),
    ):
        wrong = {**found, name: found[name].copy()}
        wrong[name][3, 1] += 0.01 * np.abs(reference).max()
        with pytest.raises(ParityError, match=sentence):
            check_engine(net.folded, reference, wrong)


@pytest.mark.parametrize("net", TASKS, indirect=True)
def test_weights_survive_the_file(net: Net, tmp_path: Path) -> None:
    """What weights.safetensors holds exports to the same bytes again."""
    kept = Weights(net.preprocess, net.folded, maxima_of(net.folded, net.x, net.raw.categorical))
    path = tmp_path / "weights.safetensors"
    path.write_bytes(weights.serialise(kept))
    read = weights.read(path, net.folded.output.task)
    assert isinstance(read.folded, Folded)
    again = export(read.preprocess, read.folded).SerializeToString()
    assert again == export(net.preprocess, net.folded).SerializeToString()
    for member, wanted in zip(read.maxima, net.maxima, strict=True):
        for layer, top in zip(member, wanted, strict=True):
            np.testing.assert_allclose(layer, top)
