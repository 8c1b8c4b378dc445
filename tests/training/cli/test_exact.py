"""`exact` rewrites a trained bundle from its own folder, `prove` certifies the file that came out."""

import json
import shutil
from pathlib import Path

import pytest

from batchproof.service.bundle import reader as bundle
from batchproof.service.bundle.files.checksum import seal
from batchproof.service.inference.engine import EngineOptions
from batchproof.service.inference.model import load
from batchproof.training.cli import exact as exact_command
from batchproof.training.cli import prove as prove_command
from batchproof.training.pipeline import train
from batchproof.training.settings import make

FEW = {"target": "species", "epochs": 2, "widths": (8,), "ensemble": 1, "encoding": "quantile", "threads": 1}


@pytest.fixture(scope="module")
def trained(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a float32 bundle of a briefly trained network."""
    models = tmp_path_factory.mktemp("models")
    return train(root / "examples" / "penguins.csv", make({**FEW, "models": str(models)})).folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of the bundle, in a models folder of its own."""
    return Path(shutil.copytree(trained.parent.parent, tmp_path / "models")) / "penguins" / "1"


def test_a_bundle_is_rewritten_exact(folder: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The new version stands beside the old, passes the service's check, and states its accuracy on the test rows."""
    assert exact_command.main([str(folder), "--table", str(root / "examples" / "penguins.csv")]) == 0
    assert "layer1 (Gemm)" in capsys.readouterr().out
    found = bundle.read(folder.parent / "2")
    load(found, EngineOptions(device="cpu"), run_rows=64)
    old = bundle.read(folder)
    arithmetic = found.manifest.arithmetic
    assert arithmetic.kind == "exact"
    assert arithmetic.certificate is not None
    assert arithmetic.certificate["sha256"] == found.manifest.files["model.onnx"].sha256
    assert arithmetic.accuracy is not None
    assert arithmetic.accuracy["score_error"] < 1e-4
    assert arithmetic.accuracy["measured_on"] == "the test rows"
    assert found.manifest.signature == old.manifest.signature
    assert found.manifest.provenance["exported_from"] == {"version": 1, "sha256": old.manifest.sha256}


def test_without_the_table_the_golden_rows_measure(folder: Path) -> None:
    """Only the folder is needed."""
    assert exact_command.main([str(folder), "--headroom", "2"]) == 0
    accuracy = bundle.read(folder.parent / "2").manifest.arithmetic.accuracy
    assert accuracy is not None
    assert (accuracy["measured_on"], accuracy["headroom"], accuracy["rows"]) == ("the golden rows", 2.0, 64)


def test_training_straight_to_exact(root: Path, tmp_path: Path) -> None:
    """With `arithmetic = exact` the trained bundle is proved and its metric is the float64 network's to four digits."""
    settings = make({**FEW, "models": str(tmp_path), "arithmetic": "exact"})
    manifest = bundle.read(train(root / "examples" / "penguins.csv", settings).folder).manifest
    assert manifest.arithmetic.kind == "exact"
    assert manifest.arithmetic.accuracy is not None
    metrics = manifest.arithmetic.accuracy["metrics"]
    assert f"{metrics['exact']['log_loss']:.4g}" == f"{metrics['float64']['log_loss']:.4g}"
    assert metrics["exact"].items() <= manifest.metrics.items()


def test_prove_shows_the_certificate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bundle's folder or a file is proved; --json prints the certificate that the manifest holds."""
    exact_command.main([str(folder)])
    capsys.readouterr()
    exact = folder.parent / "2"
    assert prove_command.main([str(exact)]) == 0
    assert "least margin" in capsys.readouterr().out
    assert prove_command.main([str(exact / "model.onnx"), "--json"]) == 0
    manifest = bundle.read(exact).manifest
    assert json.loads(capsys.readouterr().out) == manifest.arithmetic.certificate


def test_prove_refuses_by_node(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A float32 graph is not proved: the message names the first node that breaks the argument, where edge and slope are one product."""
    assert prove_command.main([str(folder / "model.onnx")]) == 1
    assert "is not proved: at bin_picked" in capsys.readouterr().err


def test_prove_says_what_to_do_with_a_float32_bundle(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bundle that never claimed to be exact is told how it becomes so."""
    assert prove_command.main([str(folder)]) == 2
    assert f"is float32; `batchproof-train exact {folder}` writes it as exact." in capsys.readouterr().err


def test_prove_takes_the_newest_version(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """models/NAME means its newest version: here the exact one, beside the float32 one."""
    exact_command.main([str(folder)])
    assert prove_command.main([str(folder.parent)]) == 0
    assert "least margin" in capsys.readouterr().out


def test_prove_refuses_a_changed_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bundle whose model.onnx is not the one in its manifest gets no certificate."""
    exact_command.main([str(folder)])
    model = folder.parent / "2" / "model.onnx"
    model.write_bytes(model.read_bytes() + b"\x32\x00")  # an empty doc_string: the same graph
    assert prove_command.main([str(folder.parent / "2")]) == 2
    assert "model.onnx has " in capsys.readouterr().err


@pytest.mark.parametrize("content, words", [(None, "cannot be read"), (b"species,island\n", "is not an ONNX file")])
def test_prove_refuses_what_is_no_file_of_ours(
    tmp_path: Path, content: bytes | None, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing file and a file of another kind are told in one sentence."""
    if content is not None:
        (tmp_path / "some.onnx").write_bytes(content)
    assert prove_command.main([str(tmp_path / "some.onnx")]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("headroom, words", [("0", "must be above 0"), ("nan", "must be above 0")])
def test_a_headroom_must_be_positive(
    folder: Path, headroom: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A headroom that no activation fits is refused."""
    assert exact_command.main([str(folder), "--headroom", headroom]) == 2
    assert words in capsys.readouterr().err


def test_another_table_is_refused(folder: Path, tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Accuracy is measured on the table that the network was trained on or not at all."""
    other = tmp_path / "other.csv"
    other.write_text((root / "examples" / "penguins.csv").read_text() + "\n")
    assert exact_command.main([str(folder), "--table", str(other)]) == 2
    assert "their SHA-256 differ" in capsys.readouterr().err
    assert not (folder.parent / "2").exists()


def test_a_bundle_without_weights_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without weights.safetensors there is nothing to export again."""
    manifest = json.loads((folder / "bundle.json").read_text())
    (folder / "weights.safetensors").unlink()
    del manifest["files"]["weights.safetensors"]
    (folder / "bundle.json").write_bytes(seal(manifest))
    assert exact_command.main([str(folder)]) == 2
    assert "has no weights.safetensors" in capsys.readouterr().err
