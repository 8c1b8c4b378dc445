"""A bundle in Triton's layout: its configuration by Triton's own schema, its warm-up by the golden rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from batchproof.service.__main__ import main
from batchproof.service.bundle import reader
from batchproof.service.bundle.signature import class_text
from batchproof.service.features.arrays import Arrays
from batchproof.service.inference.engine import Engine, EngineOptions
from tests.bundles import NUMBERS, make_bundle, reseal

TYPES = {"TYPE_FP32": "<f4", "TYPE_FP64": "<f8", "TYPE_INT64": "<i8", "TYPE_BOOL": "?"}


def exported(bundle: Path, repository: Path, *flags: str) -> tuple[Path, Any]:
    """Export a bundle; return the model's folder and its configuration, as Triton reads it."""
    assert main(["export", str(bundle), "--to", "triton", str(repository), *flags]) == 0
    (folder,) = repository.iterdir()
    return folder, text_format.Parse((folder / "config.pbtxt").read_text(), ModelConfig())


def type_of(number: int) -> str:
    name: str = (
        ModelConfig.DESCRIPTOR.fields_by_name["input"]
        .message_type.fields_by_name["data_type"]
        .enum_type.values_by_number[number]
        .name
    )
    return name


def feeds_of(folder: Path, config: Any, warm_up: Any) -> dict[str, np.ndarray]:
    """Return the arrays that Triton makes of a warm-up request: one file for each input, repeated where it batches."""
    feeds = {}
    for name, value in warm_up.inputs.items():
        raw = (folder / "warmup" / value.input_data_file).read_bytes()
        array = np.frombuffer(raw, TYPES[type_of(value.data_type)]).reshape(tuple(value.dims))
        feeds[name] = np.stack([array] * warm_up.batch_size) if config.max_batch_size else array
    return feeds


@pytest.mark.parametrize("arithmetic", ["float32", "exact"])
@pytest.mark.parametrize("task", ["binary", "regression"])
@pytest.mark.parametrize("inputs", [None, NUMBERS])
def test_the_configuration_is_the_graphs(
    tmp_path: Path, arithmetic: str, task: str, inputs: list[dict[str, Any]] | None
) -> None:
    """Names, types and shapes are those of the graph's tensors; only an exact model's requests are ever joined."""
    bundle = make_bundle(tmp_path / "models", version=7, task=task, arithmetic=arithmetic, inputs=inputs)
    folder, config = exported(bundle, tmp_path / "triton")
    manifest = reader.read(bundle).manifest
    is_exact = arithmetic == "exact"
    rows = [] if is_exact else [-1]

    assert (folder.name, config.name, config.backend) == ("flowers", "flowers", "onnxruntime")
    assert (folder / "7" / config.default_model_filename).read_bytes() == (bundle / "model.onnx").read_bytes()
    assert list(config.version_policy.specific.versions) == [7]
    for described, tensors in ((config.input, manifest.signature.tensors), (config.output, manifest.outputs)):
        found = [(one.name, TYPES[type_of(one.data_type)], list(one.dims)) for one in described]
        assert found == [
            (one.name, np.dtype(one.dtype).newbyteorder("<").str.replace("|b1", "?"), [*rows, one.width])
            for one in tensors
        ]
    assert config.max_batch_size == (1024 if is_exact else 0)
    assert config.HasField("dynamic_batching") == is_exact
    assert config.instance_group[0].kind == ModelInstanceGroup.KIND_CPU


@pytest.mark.parametrize("arithmetic", ["float32", "exact"])
def test_the_warm_up_runs_golden_rows(tmp_path: Path, arithmetic: str) -> None:
    """Each warm-up request gives the outputs of golden rows, alone and in a batch."""
    bundle = make_bundle(tmp_path / "models", arithmetic=arithmetic)
    folder, config = exported(bundle, tmp_path / "triton")
    golden = reader.read(bundle).golden.outputs
    engine = Engine((folder / "1" / "model.onnx").read_bytes(), EngineOptions(device="cpu"))
    sizes = []
    for warm_up in config.model_warmup:
        feeds = feeds_of(folder, config, warm_up)
        sizes.append(len(next(iter(feeds.values()))))
        for name, output in engine.run(Arrays(feeds.get("numeric"), feeds.get("categorical"))).items():
            wanted = (
                np.repeat(golden[name][:1], sizes[-1], axis=0) if config.max_batch_size else golden[name][: sizes[-1]]
            )
            np.testing.assert_allclose(output * 1.0, wanted * 1.0, rtol=1e-5, atol=1e-5)
    assert sizes == ([1, 64] if arithmetic == "exact" else [1, 40])


def test_the_committed_bundle_in_triton(tmp_path: Path, penguins_bundle: Path) -> None:
    """The exact bundle's warm-up has the golden bits; labels stand in the order of the probabilities; rows can be encoded."""
    folder, config = exported(penguins_bundle.parent, tmp_path / "triton", "--device", "gpu")
    manifest = reader.read(penguins_bundle).manifest
    (probabilities,) = [output for output in config.output if output.name == "probabilities"]

    engine, golden = (
        Engine((folder / "1" / "model.onnx").read_bytes(), EngineOptions(device="cpu")),
        reader.read(penguins_bundle).golden,
    )
    for warm_up in config.model_warmup:
        feeds = feeds_of(folder, config, warm_up)
        for name, output in engine.run(Arrays(feeds["numeric"], feeds["categorical"])).items():
            assert output.tobytes() == golden.outputs[name][:1].tobytes() * warm_up.batch_size
    assert (folder / probabilities.label_filename).read_text().splitlines() == list(
        map(class_text, manifest.signature.classes or ())
    )
    assert config.instance_group[0].kind == ModelInstanceGroup.KIND_GPU
    for name in ("bundle.json", "golden.json"):
        assert (folder / name).read_bytes() == (penguins_bundle / name).read_bytes()
    readme = (folder / "README.md").read_text()
    assert manifest.sha256 in readme
    assert "batchproof verify --url http://localhost:8000/v2/models/penguins" in readme


def test_a_class_that_is_no_line_has_no_label(tmp_path: Path) -> None:
    """Labels are a line each: a class with a line break in it leaves them out."""
    bundle = make_bundle(tmp_path / "models")
    reseal(bundle, lambda content: content["signature"].update(classes=["a\nb", "c", "d"]))
    folder, config = exported(bundle, tmp_path / "triton")
    assert not any(output.label_filename for output in config.output)
    assert not (folder / "labels.txt").exists()


def test_the_graph_alone(tmp_path: Path) -> None:
    """`--to onnx` writes model.onnx, byte for byte."""
    bundle = make_bundle(tmp_path / "models")
    assert main(["export", str(bundle), "--to", "onnx", str(tmp_path / "m.onnx")]) == 0
    assert (tmp_path / "m.onnx").read_bytes() == (bundle / "model.onnx").read_bytes()


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model or a file that is there is refused and stays; a refused export leaves nothing."""
    bundle = make_bundle(tmp_path / "models")
    (tmp_path / "triton" / "flowers").mkdir(parents=True)
    (tmp_path / "m.onnx").write_text("mine")
    assert main(["export", str(bundle), "--to", "triton", str(tmp_path / "triton")]) == 2
    assert main(["export", str(bundle), "--to", "onnx", str(tmp_path / "m.onnx")]) == 2
    assert main(["export", str(tmp_path / "absent"), "--to", "triton", str(tmp_path / "new")]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert [error.startswith("batchproof export: ") for error in errors] == [True, True, True]
    assert "exists already: remove it, or choose another repository" in errors[0]
    assert (tmp_path / "m.onnx").read_text() == "mine"
    assert [path.name for path in (tmp_path / "triton").iterdir()] == ["flowers"]
    assert not (tmp_path / "new").exists()
