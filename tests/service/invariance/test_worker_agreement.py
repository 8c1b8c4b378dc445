"""Workers of one service must have got the same bits; what cannot be compared is not."""

import dataclasses
from pathlib import Path

import pytest

from batchproof.service.configuration.settings import Settings
from batchproof.service.errors import EngineError, SettingError
from batchproof.service.inference.runner import Runner
from batchproof.service.invariance.check import Effort, verify
from batchproof.service.invariance.verdict import Verification
from batchproof.service.invariance.worker_agreement import agree
from batchproof.service.server.serving import app
from tests.bundles import make_bundle
from tests.varying import Stand, rows_like


@pytest.fixture
def found() -> Verification:
    return verify([Runner(Stand(), 32)], rows_like(3), effort=Effort(budget_s=0.0)).verification


def test_equal_bits_agree(tmp_path: Path, found: Verification) -> None:
    """The first worker leaves its digest, the others find the same; nothing else is left behind."""
    for _ in range(3):
        agree(tmp_path, "a" * 64, found)

    assert len(list(tmp_path.iterdir())) == 1


def test_other_bits_are_refused(tmp_path: Path, found: Verification) -> None:
    """A worker with other bits on the same host and engine does not serve the model."""
    agree(tmp_path, "a" * 64, found)

    with pytest.raises(EngineError, match="two workers computed different bits"):
        agree(tmp_path, "a" * 64, dataclasses.replace(found, bits="0" * 64))
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("change", ["model", "host"])
def test_other_models_and_hosts_are_not_compared(tmp_path: Path, found: Verification, change: str) -> None:
    """Another bundle, or another engine or processor sharing the folder, has bits of its own."""
    agree(tmp_path, "a" * 64, found)
    host = {"engine": "another 1.0"} if change == "host" else found.host
    agree(tmp_path, ("b" if change == "model" else "a") * 64, dataclasses.replace(found, bits="0" * 64, host=host))

    assert len(list(tmp_path.iterdir())) == 2


def test_loading_compares(tmp_path: Path) -> None:
    """A process that shares a folder with others refuses the model where an earlier one got other bits."""
    make_bundle(tmp_path / "models")
    shared = tmp_path / "shared"
    shared.mkdir()
    settings = Settings(models=tmp_path / "models", device="cpu", metrics_folder=str(shared))
    assert app.load(settings).is_ready
    (digest,) = shared.glob("bits-*")
    digest.write_text("0" * 64)
    refused = app.load(settings)

    assert not refused.is_ready
    assert "two workers computed different bits" in refused.registry.refusals[0].message


def test_unusable_folder_stops_the_start(tmp_path: Path) -> None:
    """Where the shared folder cannot be made, the start ends with a sentence that names the setting."""
    make_bundle(tmp_path / "models")
    (tmp_path / "file").write_text("")
    settings = Settings(models=tmp_path / "models", device="cpu", metrics_folder=str(tmp_path / "file" / "shared"))

    with pytest.raises(SettingError, match="metrics_folder"):
        app.load(settings)
