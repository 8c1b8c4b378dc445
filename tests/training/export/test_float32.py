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
from batchproof.training.network.fold import Folded, Output, predictions
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
    """No BatchNormalization is left; a layer is one Gemm, and every Gemm has alpha = beta = 1."""
    model = export(net.preprocess, net.folded)
    kinds = [node.op_type for node in model.graph.node]
    assert "BatchNormalization" not in kinds
    layers = [node for node in model.graph.node if node.op_type == "Gemm" and node.name.startswith("member")]
    assert len(layers) == sum(len(member.layers) for member in net.folded.members)
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


def test_logarithms_of_means() -> None:
    """Where scores are logarithms, the engine answers means above 0, and their logarithms are the folded network's."""
    net = make_net("regression", members=2, is_log=True)
    engine = Engine(export(net.preprocess, net.folded).SerializeToString())
    scores, found = net.folded.scores(np.asarray(net.x, np.float32), net.raw.categorical), engine.run(Arrays(*net.raw))
    assert found["value"].min() > 0.0
    assert check_engine(net.folded, scores, found) < 1e-4
    with pytest.raises(ParityError, match="the engine stage changed"):
        check_engine(net.folded, scores, {"value": found["value"] * np.float32(1.01)})


@pytest.mark.parametrize(("unit", "limits"), [(3.25, (-40.0, 40.0)), (1e30, (-40.0, 18.0)), (1e-30, (-16.0, 40.0))])
def test_no_mean_leaves_the_range_of_float32(unit: float, limits: tuple[float, float]) -> None:
    """However extreme a score is, its mean is a normal float32, not infinity and not 0."""
    output = Output("regression", 0.0, unit, is_log=True)
    values = predictions(np.array([[-1e9], [1e9]]), output).astype(np.float32)
    assert output.log_limits == limits
    assert np.isfinite(values).all()
    assert values.min() >= np.finfo(np.float32).tiny


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


@pytest.mark.parametrize("is_log", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_weights_survive_the_file(task: Task, is_log: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a parameter
    """What weights.safetensors holds exports to the same bytes again."""
    net = make_net(task, members=2, is_log=is_log and task == "regression")
    kept = Weights(net.preprocess, net.folded, maxima_of(net.folded, [(net.x, net.raw.categorical)]))
    path = tmp_path / "weights.safetensors"
    path.write_bytes(weights.serialise(kept))
    read = weights.read(path, net.folded.output.task)
    assert isinstance(read.folded, Folded)
    again = export(read.preprocess, read.folded).SerializeToString()
    assert again == export(net.preprocess, net.folded).SerializeToString()
    for member, wanted in zip(read.maxima, net.maxima, strict=True):
        for layer, top in zip(member, wanted, strict=True):
            np.testing.assert_allclose(layer, top)
