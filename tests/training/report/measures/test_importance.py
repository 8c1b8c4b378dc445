"""Importance, dependence, reliability, scores and scales: each against what is known beforehand."""

from typing import Any

import numpy as np
import pytest

from batchproof.training.estimators.estimator import BatchNormMLPRegressor
from batchproof.training.evaluation.comparison import baseline_answers
from batchproof.training.report.charts.scale import Scale, around, number, round_step
from batchproof.training.report.measures import importance as influence
from batchproof.training.report.measures import reliability
from batchproof.training.report.measures import scores as scoreboard
from batchproof.training.trained_model import Model

QUICK: dict[str, Any] = {"widths": (32,), "ensemble": 1, "encoding": "plain", "epochs": 60, "threads": 1}


@pytest.fixture(scope="module")
def model() -> Model:
    """Return a model of y = 10 a, where b says nothing."""
    x = np.random.default_rng(0).normal(size=(400, 2))
    made: Model = BatchNormMLPRegressor(**QUICK, test_share=0.3).fit(x, 10.0 * x[:, 0]).model_
    return made


def test_importance_ranks_what_matters(model: Model) -> None:
    """Shuffling the only cause costs about sqrt(2) spreads of the target, shuffling noise next to nothing."""
    first, second = influence.importances(model.data, model.run)

    assert (first.feature, second.feature) == ("x0", "x1")
    assert first.rise == pytest.approx(14.1, rel=0.25)
    assert abs(second.rise) < 0.5


def test_dependence_follows_the_cause(model: Model) -> None:
    """The mean answer rises by ten a unit along the cause, and hardly at all along noise."""
    along = {
        one.feature.name: one
        for one in influence.dependences(model.data, model.run, influence.importances(model.data, model.run))
    }
    slope = {name: np.polyfit(one.grid, one.answers[:, 0], 1)[0] for name, one in along.items()}

    assert slope["x0"] == pytest.approx(10.0, rel=0.15)
    assert abs(slope["x1"]) < 0.5


def test_scores_stand_beside_simpler_ones(model: Model) -> None:
    """A linear target is the linear model's own: it wins, the constant loses, and intervals hold their values."""
    found = {
        score.name: score
        for score in scoreboard.scores(model.data, model.run(model.data.arrays["test"]), baseline_answers(model.data))
    }
    rmse = {name: measured.value for name, measured in found["RMSE"].methods.items()}

    assert rmse["Linear model"] < rmse["This model"] < rmse["Constant"]
    assert rmse["Constant"] == pytest.approx(10.0, rel=0.2)
    for score in found.values():
        assert all(one.low <= one.value <= one.high for one in score.methods.values())


def test_scores_are_of_all_rows(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resamples of a few rows change neither the value, which is of all rows, nor by much the width of its interval."""
    outputs, simpler = model.run(model.data.arrays["test"]), baseline_answers(model.data)
    whole = scoreboard.scores(model.data, outputs, simpler)[0].methods["This model"]
    monkeypatch.setattr(scoreboard, "RESAMPLED_ROWS", 30)
    sampled = scoreboard.scores(model.data, outputs, simpler)[0].methods["This model"]

    error = outputs["value"][:, 0] - model.data.y("test")
    assert sampled.value == whole.value == pytest.approx(float(np.sqrt(np.mean(error**2))), rel=1e-6)
    assert sampled.high - sampled.low == pytest.approx(whole.high - whole.low, rel=0.3)


def test_reliability_of_honest_and_of_boastful_probabilities() -> None:
    """Outcomes drawn from the stated probabilities lie on the diagonal; doubled log-odds do not."""
    random = np.random.default_rng(0)
    p = random.uniform(0.02, 0.98, 20_000)
    codes = (random.random(20_000) < p).astype(np.int64)
    boastful = p**2 / (p**2 + (1 - p) ** 2)
    found = reliability.of(np.stack([1 - boastful, boastful], 1), np.stack([1 - p, p], 1), codes, 2.0)

    assert found.after.error < 0.015
    assert found.before.error > 0.08


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.2, 7.9), (1e6, 1e6 + 3), (0.0, 3e-7), (5.0, 5.0)])
def test_ticks_are_round_and_within(low: float, high: float) -> None:
    """An axis has two to twelve ticks, all of them on it, whatever its range."""
    scale = around([low, high], 0, 100)
    ticks = scale.ticks()

    assert 2 <= len(ticks) <= 12
    assert all(-1e-6 <= scale.at(tick) <= 100 + 1e-6 for tick in ticks)


def test_round_steps() -> None:
    """Steps are 1, 2, 2.5 or 5 times a power of ten."""
    assert [round_step(step) for step in (0.9, 1.1, 2.3, 4.0, 7.0, 70.0)] == [1.0, 2.0, 2.5, 5.0, 10.0, 100.0]


def test_a_scale_keeps_to_its_ends() -> None:
    """A value beyond an end is put on it."""
    assert Scale(0, 1, 10, 20).at(7) == 20


def test_numbers_for_people() -> None:
    """Four digits, thousands and millions by letter."""
    assert [number(value) for value in (0.0181349, 12345.0, 2.5e6, -0.0, float("nan"))] == [
        "0.01813",
        "12.35k",
        "2.5M",
        "0",
        "none",
    ]
