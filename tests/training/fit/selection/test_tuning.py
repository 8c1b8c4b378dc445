"""The search of settings: what was given stays, the rules come first, an ended search goes on, nothing is left behind."""

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchproof.training.data.dataset import Dataset, prepare
from batchproof.training.export.destination import bundle_path
from batchproof.training.fit.progress import Silent
from batchproof.training.fit.selection import tuning
from batchproof.training.pipeline import train
from batchproof.training.settings import SettingError, Settings, make

QUICK: dict[str, Any] = {"target": "kind", "threads": 1, "device": "cpu", "epochs": 8, "widths": (8,), "ensemble": 1}


class Told(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        """Keep a line."""
        self.lines.append(line)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Write two classes that follow from a number."""
    size = np.random.default_rng(0).normal(size=120)
    path = tmp_path / "things.csv"
    path.write_text("size,kind\n" + "".join(f"{one:.4f},{'big' if one > 0 else 'small'}\n" for one in size))
    return path


def settings_of(tmp_path: Path, **given: Any) -> Settings:
    return make({**QUICK, "models": str(tmp_path / "models"), **given})


def search(data: Dataset, settings: Settings, journal: Path, stop: Callable[[], bool] = lambda: False) -> list[str]:
    told = Told()
    found = tuning.search(data, settings, journal, "key", told, stop)
    assert found.widths == settings.widths
    return told.lines


def test_a_search_tries_the_rules_first_and_keeps_what_was_given(tmp_path: Path, table: Path) -> None:
    """The first trial is the rules' own choice; a given setting is never searched, an open one always is."""
    settings = settings_of(tmp_path, tune=3, dropout=0.25)
    data = prepare(table, settings)
    lines = search(data, settings, tmp_path / "journal")

    assert [line.split(":")[0] for line in lines[:3]] == ["trial 1 of 3", "trial 2 of 3", "trial 3 of 3"]
    assert {"learning_rate", "weight_decay", "batch_rows", "encoding"} == set(tuning.default_parameters(data, settings))
    assert "dropout" not in lines[-1]


def test_an_ended_search_goes_on(tmp_path: Path, table: Path) -> None:
    """Trials of a journal count: asked for two more, a search runs two more; asked for none more, none."""
    data = prepare(table, settings_of(tmp_path))
    first = search(data, settings_of(tmp_path, tune=9), tmp_path / "journal", stop=lambda: True)
    second = search(data, settings_of(tmp_path, tune=3), tmp_path / "journal")
    third = search(data, settings_of(tmp_path, tune=3), tmp_path / "journal")

    assert len(first) == 2
    assert second[0].startswith("continuing a search of 1 trials")
    assert [line.split(":")[0] for line in second[1:3]] == ["trial 2 of 3", "trial 3 of 3"]
    assert [line.split(" ")[0] for line in third] == ["continuing", "the"]


def test_an_unpromising_trial_is_pruned(tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit that is worse than the median of the others at the same epoch does not run to its end."""
    monkeypatch.setattr(tuning, "STARTUP_TRIALS", 1)
    monkeypatch.setattr(tuning, "WARMUP_EPOCHS", 1)
    settings = settings_of(tmp_path, tune=12, epochs=20, encoding="plain")
    lines = search(prepare(table, settings), settings, tmp_path / "journal")

    assert any("pruned" in line for line in lines)


def test_the_command_searches_then_trains(tmp_path: Path, table: Path) -> None:
    """A bundle is written with what was found in its provenance, and the journal is gone."""
    settings = settings_of(tmp_path, tune=2)
    made = train(table, settings)

    assert not list(made.folder.parent.glob(".tuning*"))
    assert bundle_path(table, settings).version == 2


def test_without_optuna_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named in one sentence."""
    absent(monkeypatch, "optuna")
    with pytest.raises(SettingError, match=r"pip install 'optuna>="):
        tuning.library()


def absent(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let the import of one package fail."""
    real = builtins.__import__

    def importer(wanted: str, *rest: Any, **named: Any) -> Any:
        if wanted.split(".", maxsplit=1)[0] == name:
            raise ImportError(name)
        return real(wanted, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", importer)
