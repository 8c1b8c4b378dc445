"""`reference` adds the statistics of the training rows to a bundle that has none, and changes no answer."""

import json
import shutil
from pathlib import Path

import pytest

from batchproof.service.bundle import reader as bundles
from batchproof.service.bundle.files.checksum import seal
from batchproof.training.cli import reference as command
from batchproof.training.pipeline import train
from batchproof.training.settings import make

FEW = {"target": "species", "epochs": 2, "widths": (8,), "ensemble": 1, "encoding": "quantile", "threads": 1}


@pytest.fixture(scope="module")
def trained(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle as training writes it today."""
    models = tmp_path_factory.mktemp("models")
    return train(root / "examples" / "penguins.csv", make({**FEW, "models": str(models)})).folder


@pytest.fixture
def old(trained: Path, tmp_path: Path) -> Path:
    """Return the same bundle in format 1, without statistics."""
    folder = Path(shutil.copytree(trained.parent.parent, tmp_path / "models")) / "penguins" / "1"
    (folder / "reference.json").unlink()
    content = json.loads((folder / "bundle.json").read_bytes())
    del content["sha256"], content["files"]["reference.json"]
    (folder / "bundle.json").write_bytes(seal({**content, "format_version": 1}))
    return folder


def test_statistics_are_those_of_training(old: Path, trained: Path, root: Path) -> None:
    """The new version has the very statistics that training writes, and every other file byte for byte."""
    assert command.main([str(old), str(root / "examples" / "penguins.csv")]) == 0
    new = old.parent / "2"
    before, after = bundles.read(old).manifest, bundles.read(new).manifest

    assert (new / "reference.json").read_bytes() == (trained / "reference.json").read_bytes()
    for name in before.files:
        assert (new / name).read_bytes() == (old / name).read_bytes()
    assert (before.format_version, after.format_version) == (1, 2)
    assert after.signature == before.signature
    assert after.provenance == {**before.provenance, "exported_from": {"version": 1, "sha256": before.sha256}}


def test_the_version_is_kept_in_another_folder(old: Path, tmp_path: Path, root: Path) -> None:
    """With --models the bundle keeps its version."""
    table = root / "examples" / "penguins.csv"
    assert command.main([str(old), str(table), "--models", str(tmp_path / "other")]) == 0
    assert bundles.read(tmp_path / "other" / "penguins" / "1").reference is not None
    assert not (old.parent / "2").exists()
    assert command.main([str(old), str(table), "--models", str(tmp_path / "other")]) == 1


def test_the_committed_model_has_what_the_command_makes(root: Path, tmp_path: Path) -> None:
    """The statistics of the model in this repository are those of its table."""
    committed = root / "models" / "penguins" / "1"
    data = command.training_data(bundles.read(committed), root / "examples" / "penguins.csv")
    stored = json.loads((committed / "reference.json").read_bytes())
    assert stored["rows"] == len(data.arrays["train"].numeric)
    assert stored["features"] == command.reference.feature_entries(
        data.signature, data.arrays["train"], stored["rare_rows"]
    )


@pytest.mark.parametrize("fault", ["table", "present", "signature"])
def test_what_does_not_fit_is_refused(
    old: Path, trained: Path, root: Path, tmp_path: Path, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another table, a bundle that has statistics, other categories: one sentence, and nothing is written."""
    table, folder, sentence = root / "examples" / "penguins.csv", old, ""
    if fault == "table":
        table = tmp_path / "penguins.csv"
        table.write_text((root / "examples" / "penguins.csv").read_text().replace("Biscoe", "Biskoe", 1))
        sentence = "is not the table that the bundle was trained on"
    elif fault == "present":
        folder, sentence = trained, "has reference.json already"
    else:
        content = json.loads((old / "bundle.json").read_bytes())
        del content["sha256"]
        (feature,) = (one for one in content["signature"]["inputs"] if one["name"] == "island")
        feature["categories"].reverse()
        (old / "bundle.json").write_bytes(seal(content))
        sentence = "island is encoded otherwise now"
    assert command.main([str(folder), str(table)]) == 2
    assert sentence in capsys.readouterr().err
    assert not (folder.parent / "2").exists()
