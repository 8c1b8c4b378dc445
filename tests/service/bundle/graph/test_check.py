"""What a graph may not hold, one change at a time, and every damaged byte of one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from batchproof.service.bundle import reader as bundle
from batchproof.service.bundle.graph import check as graph_check
from batchproof.service.bundle.graph import tensors
from batchproof.service.bundle.graph.fields import TENSOR
from batchproof.service.bundle.graph.protobuf import Message
from batchproof.service.bundle.manifest import Manifest
from batchproof.service.errors import BundleError
from tests.bundles import make_bundle


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> bundle.Bundle:
    return bundle.read(make_bundle(tmp_path_factory.mktemp("models")))


@pytest.fixture
def manifest(read: bundle.Bundle) -> Manifest:
    return read.manifest


@pytest.fixture
def model(read: bundle.Bundle) -> onnx.ModelProto:
    return onnx.load_model_from_string(read.model)


def weight(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def spoil(name: str, value: float) -> Callable[[onnx.ModelProto], None]:
    """Return a change that puts `value` into the weight `name`, stored as raw bytes."""

    def change(model: onnx.ModelProto) -> None:
        stored = weight(model, name)
        array = numpy_helper.to_array(stored).copy()
        array.flat[array.size // 2] = value
        stored.CopyFrom(numpy_helper.from_array(array, name))

    return change


def typed_data(name: str) -> Callable[[onnx.ModelProto], None]:
    """Return a change that stores the weight `name` with a NaN in the typed field instead of raw bytes."""

    def change(model: onnx.ModelProto) -> None:
        stored = weight(model, name)
        array = numpy_helper.to_array(stored).copy()
        array.flat[0] = np.nan
        stored.CopyFrom(helper.make_tensor(name, stored.data_type, array.shape, array.ravel()))

    return change


def external(model: onnx.ModelProto) -> None:
    stored = weight(model, "head_weight")
    stored.ClearField("raw_data")
    stored.data_location = TensorProto.EXTERNAL
    stored.external_data.add(key="location", value="../../../etc/passwd")


def constant_node(model: onnx.ModelProto) -> None:
    value = numpy_helper.from_array(np.array([np.inf]), "hidden")
    model.graph.node.append(helper.make_node("Constant", [], ["unused"], value=value))


def function(model: onnx.ModelProto) -> None:
    body = [helper.make_node("Identity", ["x"], ["y"])]
    model.functions.append(helper.make_function("own", "Hidden", ["x"], ["y"], body, [helper.make_opsetid("", 17)]))


def subgraph(model: onnx.ModelProto) -> None:
    output = helper.make_tensor_value_info("inner", TensorProto.FLOAT, [1])
    inner = helper.make_graph([helper.make_node("Constant", [], ["inner"], value_float=1.0)], "g", [], [output])
    model.graph.node.append(helper.make_node("If", ["is_missing"], ["z"], then_branch=inner, else_branch=inner))


REFUSED = {
    "NaN weight": (spoil("hidden_weight", np.nan), "the weight 'hidden_weight' holds NaN or infinity"),
    "infinite weight": (spoil("head_bias", -np.inf), "the weight 'head_bias' holds NaN or infinity"),
    "NaN in float64": (spoil("mean", np.nan), "the weight 'mean' holds NaN or infinity"),
    "NaN in float_data": (typed_data("head_bias"), "the weight 'head_bias' holds NaN or infinity"),
    "NaN in double_data": (typed_data("mean"), "the weight 'mean' holds NaN or infinity"),
    "infinite constant": (constant_node, "the weight 'hidden' holds NaN or infinity"),
    "NaN attribute": (
        lambda m: m.graph.node[-1].attribute.append(helper.make_attribute("alpha", float("nan"))),
        "the attribute 'alpha' of the node 'scores' holds NaN or infinity",
    ),
    "two weights of one name": (
        lambda m: m.graph.initializer.append(weight(m, "mean")),
        "there are two weights 'mean'",
    ),
    "an attribute twice": (
        lambda m: m.graph.node[-1].attribute.extend([helper.make_attribute("alpha", 1.0)] * 2),
        "the attribute 'alpha' of the node 'scores' is there twice",
    ),
    "external data": (external, "a tensor has the field 13, which a bundle may not use"),
    "local function": (function, "a model has the field 25, which a bundle may not use"),
    "training": (lambda m: m.training_info.add(), "a model has the field 20, which a bundle may not use"),
    "sub-graph": (subgraph, "a node attribute has the field 6, which a bundle may not use"),
    "sparse weight": (
        lambda m: m.graph.sparse_initializer.add(),
        "a graph has the field 15, which a bundle may not use",
    ),
    "foreign domain": (
        lambda m: setattr(m.graph.node[0], "domain", "com.microsoft"),
        "the node 'is_missing' is of the domain 'com.microsoft', not a standard one",
    ),
    "foreign operator set": (
        lambda m: m.opset_import.append(helper.make_opsetid("com.microsoft", 1)),
        "it imports the operator sets [('', 17), ('com.microsoft', 1)]",
    ),
    "other operator set": (lambda m: setattr(m.opset_import[0], "version", 21), "it imports the operator sets"),
    "other IR version": (lambda m: setattr(m, "ir_version", 10), "it has IR version 10; a bundle has 8"),
    "chance": (
        lambda m: m.graph.node.append(helper.make_node("RandomNormal", [], ["r"], "r", shape=[1])),
        "the node 'r' (RandomNormal) is random: a row would not get the same answer twice",
    ),
    "text weight": (
        lambda m: m.graph.initializer.append(helper.make_tensor("t", TensorProto.STRING, [0], [])),
        "the weight 't' has data type 8, which a bundle may not use",
    ),
    "short weight": (
        lambda m: weight(m, "head_bias").dims.__setitem__(0, 4),
        "the weight 'head_bias' has 12 bytes of data, which do not fill [4] of float32",
    ),
    "negative dimension": (
        lambda m: weight(m, "head_bias").dims.__setitem__(0, -3),
        "the weight 'head_bias' has a negative dimension",
    ),
    "other input name": (lambda m: setattr(m.graph.input[0], "name", "x"), "the graph's inputs are categorical"),
    "other input width": (
        lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[1], "dim_value", 5),
        "numeric [rows, 5] float64, but bundle.json asks for",
    ),
    "fixed rows": (
        lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 1),
        "numeric [1, 4] float64, but bundle.json asks for",
    ),
    "other input type": (
        lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", TensorProto.FLOAT),
        "numeric [rows, 4] float32, but bundle.json asks for",
    ),
    "input of no type": (lambda m: m.graph.input[0].ClearField("type"), "numeric of no type"),
    "input of empty type": (lambda m: m.graph.input[0].type.Clear(), "numeric of no type"),
    "missing output": (lambda m: m.graph.output.pop(), "the graph's outputs are probabilities [rows, 3] float32, but"),
    "no graph": (lambda m: m.ClearField("graph"), "it has no graph"),
}


def test_sound_graph_passes(read: bundle.Bundle) -> None:
    """A graph as training writes it is taken."""
    graph_check.check(read.model, read.manifest)


@pytest.mark.parametrize("case", REFUSED)
def test_graph_is_refused(model: onnx.ModelProto, manifest: Manifest, case: str) -> None:
    """Each thing that a bundle's graph may not hold is refused with its place and reason."""
    change, reason = REFUSED[case]
    change(model)
    with pytest.raises(BundleError) as caught:
        graph_check.check(model.SerializeToString(), manifest)
    assert str(caught.value).startswith("model.onnx: ")
    assert reason in str(caught.value)


def test_second_graph_is_refused(read: bundle.Bundle, model: onnx.ModelProto) -> None:
    """A graph appended to the file, which protobuf would merge into the first, is refused."""
    hidden = onnx.ModelProto()
    hidden.graph.node.append(helper.make_node("Identity", ["numeric"], ["leak"]))
    with pytest.raises(BundleError, match="a model has the field graph twice"):
        graph_check.check(read.model + hidden.SerializeToString(), read.manifest)


def test_numbers_cut_short_are_refused() -> None:
    """Typed data that ends within a number is refused before it is read as numbers."""
    cut = Message(memoryview(b"\x10\x01\x22\x03abc"), "tensor", TENSOR)
    with pytest.raises(ValueError, match="the weight '' ends within a number"):
        tensors.read(cut)


def test_damage_never_escapes_as_another_exception(read: bundle.Bundle) -> None:
    """Whatever bytes stand in model.onnx, the scan passes them or raises a BundleError."""
    rng = np.random.default_rng(3)
    refused = 0
    for place in rng.integers(len(read.model), size=1500).tolist():
        damaged = bytearray(read.model)
        damaged[place] = int(rng.integers(256))
        refused += _is_refused(bytes(damaged), read.manifest) + _is_refused(read.model[:place], read.manifest)
    assert refused > 1500


@pytest.mark.parametrize(
    "raw", [b"\x08", b"\xff" * 11, b"\x0b", b"\x3a\x05\x00", b"\x08" + b"\x80" * 20, b"\x39\x00", b"\x12\x01\xff\x1a"]
)
def test_broken_protobuf_is_refused(manifest: Manifest, raw: bytes) -> None:
    """Numbers cut off, lengths beyond the end and wire types that do not exist are refused."""
    assert _is_refused(raw, manifest)


def _is_refused(raw: bytes, manifest: Manifest) -> bool:
    try:
        graph_check.check(raw, manifest)
    except BundleError:
        return True
    return False


def test_scan_reads_every_graph_that_export_writes(tmp_path: Path) -> None:
    """Each task in both arithmetics passes: the closed lists of fields hold all that is written."""
    for task in ("binary", "multiclass", "regression"):
        for arithmetic in ("float32", "exact"):
            read = bundle.read(make_bundle(tmp_path, f"{task}-{arithmetic}", task=task, arithmetic=arithmetic))
            graph_check.check(read.model, read.manifest)


def test_graph_of_too_many_nodes_is_refused(model: onnx.ModelProto, manifest: Manifest) -> None:
    """Thousands of nodes, for which the engine would take minutes, are refused before they are read."""
    relu = helper.make_node("Relu", ["numeric"], ["y"])
    model.graph.node.extend([relu] * 10_001)
    with pytest.raises(BundleError, match="it has 10020 nodes; a bundle's has at most 10000"):
        graph_check.check(model.SerializeToString(), manifest)


def test_described_values_are_read_too(model: onnx.ModelProto, manifest: Manifest) -> None:
    """What the file says of values between nodes is held to the same closed list of fields."""
    value = model.graph.value_info.add(name="hidden")
    value.type.sequence_type.elem_type.tensor_type.elem_type = 1
    with pytest.raises(BundleError, match="a type has the field 4, which a bundle may not use"):
        graph_check.check(model.SerializeToString(), manifest)
