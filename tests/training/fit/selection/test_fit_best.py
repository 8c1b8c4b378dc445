import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from batchproof.training.data.dataset import Dataset, prepare
from batchproof.training.fit.checkpoint import Checkpoint
from batchproof.training.fit.context import Fitted
from batchproof.training.fit.progress import Progress
from batchproof.training.fit.selection import choice as choose
from batchproof.training.fit.selection import defaults as rules
from batchproof.training.fit.selection.candidates import candidates_for
from batchproof.training.fit.selection.fit_best import fit_best
from batchproof.training.settings import Settings, make


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Return a small table whose target steps where no scaled value tells it."""
    random = np.random.default_rng(0)
    x = random.uniform(-1.0, 1.0, 600)
    y = np.floor(x * 6) % 2 > 0
    path = tmp_path_factory.mktemp("tables") / "steps.parquet"
    pq.write_table(pa.table({"x": x, "noise": random.normal(size=600), "y": y.astype(np.int64)}), path)
    return prepare(path, make({"target": "y"}))


def settings(**given: object) -> Settings:
    return make({"target": "y", "epochs": 12, "ensemble": 1, "widths": (16,), "learning_rate": 0.02, **given})


def fit_candidates(
    data: Dataset,
    given: Settings,
    progress: Progress,
    stop: Callable[[], bool],
    checkpoint: Checkpoint | None = None,
) -> Fitted:
    """Fit the best of the candidates that the settings give."""
    return fit_best(data, candidates_for(len(data.split.train), given), given, progress, stop, checkpoint)


def fitted_name(data: Dataset, given: Settings, checkpoint: Checkpoint | None = None) -> str:
    name: str = fit_candidates(data, given, Progress(quiet=True), lambda: False, checkpoint).chosen["name"]
    return name


def test_bins_are_chosen_where_they_are_clearly_better(data: Dataset) -> None:
    """On steps of one column bins win on validation, although few rows prefer plain values."""
    assert rules.encodings(len(data.split.train))[0] == "plain"
    assert fitted_name(data, settings()) == "bins"


@pytest.mark.parametrize("full_rows", [rules.FULL_ROWS, 100])
def test_the_winner_is_told_in_one_line(data: Dataset, monkeypatch: pytest.MonkeyPatch, full_rows: int) -> None:
    """Where plans competed, the winning encoding and the networks it is fitted with stand in one line."""
    monkeypatch.setattr(rules, "FULL_ROWS", full_rows)
    told = io.StringIO()
    fitted = fit_candidates(data, settings(ensemble=2), Progress(told, quiet=True), lambda: False)
    told_last = [line for line in told.getvalue().splitlines() if line.startswith("chosen")]
    assert fitted.chosen["name"] == "bins"
    won = "its validation loss is clearly lower"
    assert told_last == [f"chosen: encoding 'bins' ({won}), an ensemble of 2 networks of widths 16"]


def test_a_preferred_plan_is_told_with_its_reason(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the first plan is kept although another's loss may be a little lower, the line says why."""
    monkeypatch.setattr(choose, "winner", lambda _: 0)
    told = io.StringIO()
    fit_candidates(data, settings(), Progress(told, quiet=True), lambda: False)
    kept = "no other has a clearly lower validation loss"
    assert f"chosen: encoding 'plain' ({kept}), one network of widths 16\n" in told.getvalue()


@pytest.mark.parametrize("given, stop", [({"encoding": "plain"}, False), ({}, True)])
def test_where_nothing_competed_no_winner_is_told(data: Dataset, given: dict[str, str], *, stop: bool) -> None:
    """A given encoding, or a stop during the first fit, is no choice by validation loss."""
    told = io.StringIO()
    fit_candidates(data, settings(**given), Progress(told, quiet=True), lambda: stop)
    assert "chosen" not in told.getvalue()


def test_a_sample_chooses_the_same(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables above the limit compare short fits on a sample, and the winner is fitted to all training rows."""
    monkeypatch.setattr(rules, "FULL_ROWS", 100)
    monkeypatch.setattr(rules, "SAMPLE_ROWS", 250)
    fitted = fit_candidates(data, settings(), Progress(quiet=True), lambda: False)
    assert fitted.chosen["name"] == "bins"
    assert len(fitted.rows["train"].y) == len(data.split.train)


def test_a_given_encoding_is_taken(data: Dataset) -> None:
    """What the settings say is not tried against anything."""
    assert fitted_name(data, settings(encoding="waves")) == "waves"


def test_an_interruption_while_choosing_keeps_the_first_plan(data: Dataset) -> None:
    """Asked to stop during the first trial, there is still a network."""
    fitted = fit_candidates(data, settings(), Progress(quiet=True), lambda: True)
    assert fitted.chosen["name"] == "plain"
    assert fitted.result.stopped == "interrupted"


def test_a_resumed_run_does_not_choose_again(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint says which plan was being fitted; the resumed fit ends in the bits of the undisturbed one."""
    monkeypatch.setattr(rules, "FULL_ROWS", 100)
    given = settings()
    checkpoint = Checkpoint(tmp_path / "checkpoint.safetensors", "run", interval_s=0.0)
    whole = fit_candidates(data, given, Progress(quiet=True), lambda: False)
    calls = []

    def stop_in_the_final_fit() -> bool:
        calls.append(1)
        return checkpoint.path.exists() and len(calls) > 30

    fit_candidates(data, given, Progress(quiet=True), stop_in_the_final_fit, checkpoint)
    monkeypatch.setattr(
        "batchproof.training.fit.selection.fit_best.best_on_sample", lambda *_: pytest.fail("chose again")
    )
    resumed = fit_candidates(data, replace(given, resume=True), Progress(quiet=True), lambda: False, checkpoint)
    ours, theirs = whole.result.network.state_dict(), resumed.result.network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_resumed_run_of_a_small_table_ends_in_the_same_bits(data: Dataset, tmp_path: Path) -> None:
    """Where every plan is fitted in full, the interrupted one goes on, and the choice is that of the whole run."""
    given = settings()
    checkpoint = Checkpoint(tmp_path / "checkpoint.safetensors", "run", interval_s=0.0)
    whole = fit_candidates(data, given, Progress(quiet=True), lambda: False)
    fit_candidates(data, given, Progress(quiet=True), lambda: True, checkpoint)
    resumed = fit_candidates(data, replace(given, resume=True), Progress(quiet=True), lambda: False, checkpoint)
    assert resumed.chosen == whole.chosen
    ours, theirs = whole.result.network.state_dict(), resumed.result.network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
