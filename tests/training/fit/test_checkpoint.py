"""Checkpoints: replaced whole, of one run, and refused in one sentence."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from batchproof.training.fit import checkpoint
from batchproof.training.fit.checkpoint import Checkpoint, CheckpointError, deciding, run_key
from batchproof.training.settings import make

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "steps": torch.tensor(7)}


def test_round_trip(tmp_path: Path) -> None:
    """The saved state comes back to the bit, for the same data and settings."""
    path = tmp_path / "m" / ".checkpoint.safetensors"
    Checkpoint(path, "one run").save(STATE)
    found = Checkpoint(path, "one run").load()
    assert all(torch.equal(found[name], tensor) for name, tensor in STATE.items())
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_interval(tmp_path: Path) -> None:
    """States that follow within the interval are passed over, so that short epochs stay short."""
    path = tmp_path / "c.safetensors"
    saved = Checkpoint(path, "run", interval_s=3600)
    saved.save(STATE)
    saved.save({"steps": torch.tensor(8)})
    assert saved.load()["steps"] == 7


def test_remove(tmp_path: Path) -> None:
    """Removing is done whether or not there is a file."""
    saved = Checkpoint(tmp_path / "c.safetensors", "run")
    saved.save(STATE)
    saved.remove()
    saved.remove()
    assert not list(tmp_path.iterdir())


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a state cannot be written, one sentence says so, and no half of it is left; the state before it stays."""
    path = tmp_path / "c.safetensors"
    Checkpoint(path, "run").save(STATE)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(CheckpointError, match=r"c\.safetensors cannot be written: No space left on device\."):
            Checkpoint(path, "run").save({"steps": torch.tensor(8)})
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert Checkpoint(path, "run").load()["steps"] == 7


def test_none(tmp_path: Path) -> None:
    """Where no run was interrupted there is nothing to resume."""
    with pytest.raises(CheckpointError, match=r"there is no checkpoint .* to resume from: run without --resume."):
        Checkpoint(tmp_path / "c.safetensors", "run").load()


def test_another_run(tmp_path: Path) -> None:
    """A checkpoint of other settings is refused."""
    Checkpoint(tmp_path / "c.safetensors", "one run").save(STATE)
    with pytest.raises(CheckpointError, match="belongs to other data or settings: use the same ones"):
        Checkpoint(tmp_path / "c.safetensors", "another run").load()


def test_a_run_by_other_rules_is_another_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the rules for what is left open change, the same command does not resume into another plan."""
    data: Any = SimpleNamespace(table=SimpleNamespace(sha256="of the table"))
    key = run_key(data, make({"target": "y"}))
    assert key == run_key(data, make({"target": "y"}))
    monkeypatch.setattr(checkpoint, "RULES", checkpoint.RULES + 1)
    assert key != run_key(data, make({"target": "y"}))


def test_damaged(tmp_path: Path) -> None:
    """A file that is no checkpoint is refused."""
    path = tmp_path / "c.safetensors"
    path.write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="cannot be read: "):
        Checkpoint(path, "run").load()


@pytest.mark.parametrize(
    "changed", [{"threshold": "f1"}, {"arithmetic": "exact"}, {"golden_rows": 128}, {"contact": "A. Person"}]
)
def test_what_is_made_of_a_fit_does_not_decide_it(changed: dict[str, Any]) -> None:
    """A run may be resumed with other settings where these only say what becomes of the fitted network."""
    assert deciding(make({"target": "y", **changed})) == deciding(make({"target": "y"}))
    assert deciding(make({"target": "y", **changed, "metric": "f1"})) != deciding(make({"target": "y"}))
