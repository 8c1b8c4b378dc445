"""Stored thresholds are looked up on the safe side and give sets and intervals that hold the truth."""

import numpy as np
import pytest

from batchproof.service.bundle.conformal import Conformal
from batchproof.service.bundle.files.records import Invalid
from batchproof.training.evaluation import conformal

COVERAGES = [0.5, 0.8, 0.9, 0.95]


def _stored(**changes: object) -> dict[str, object]:
    stored = {
        "method": "split-conformal",
        "calibration_rows": 100,
        "coverages": [0.5, 0.9],
        "edges": [10.0],
        "thresholds": [[1.0, 2.0], [3.0, 4.0]],
        "tested": {},
    }
    return stored | changes


def test_a_level_is_never_less_than_what_was_asked() -> None:
    """The least stored coverage at or above the one asked for is taken."""
    found = Conformal.model_validate(_stored())
    assert [found.level(asked) for asked in (0.3, 0.5, 0.51, 0.9)] == [0, 0, 1, 1]


@pytest.mark.parametrize("asked", [0.0, -1.0, 0.91, 1.0, 2.0, float("nan")])
def test_a_coverage_without_a_threshold_is_refused(asked: float) -> None:
    """A coverage that the calibration rows cannot support names the greatest that they can."""
    with pytest.raises(ValueError, match=r"at most 0\.9"):
        Conformal.model_validate(_stored()).level(asked)


@pytest.mark.parametrize(
    "change",
    [
        {"edges": [10.0, 9.0], "thresholds": [[1.0, 2.0]] * 3},
        {"coverages": [0.9, 0.5]},
        {"thresholds": [[1.0, 2.0]]},
        {"thresholds": [[2.0, 1.0], [3.0, 4.0]]},
        {"thresholds": [[1.0, -2.0], [3.0, 4.0]]},
        {"thresholds": [[1.0, float("inf")], [3.0, 4.0]]},
        {"surprise": 1},
    ],
)
def test_wrong_thresholds_are_refused(change: dict[str, object]) -> None:
    """Each way in which stored thresholds can be inconsistent is refused."""
    with pytest.raises(Invalid):
        Conformal.model_validate(_stored(**change))


def test_an_interval_takes_the_threshold_of_its_bin() -> None:
    """A value at an edge belongs to the bin above it."""
    low, high = Conformal.model_validate(_stored()).intervals(1, np.array([9.0, 10.0], np.float32))
    np.testing.assert_array_equal(low, [7.0, 6.0])
    np.testing.assert_array_equal(high, [11.0, 14.0])


def test_a_set_always_holds_the_most_probable_class() -> None:
    """Even where its threshold would leave the set empty."""
    found = Conformal.model_validate(_stored(edges=[], thresholds=[[0.0, 0.6]]))
    probabilities = np.array([[0.5, 0.3, 0.2], [0.45, 0.45, 0.1]], np.float32)
    np.testing.assert_array_equal(found.sets(0, probabilities), [[True, False, False], [True, False, False]])
    np.testing.assert_array_equal(found.sets(1, probabilities), [[True, False, False], [True, True, False]])


def test_intervals_cover_what_they_promise() -> None:
    """On rows drawn as the calibration rows were, measured coverage is near the asked one, in every bin."""
    random = np.random.default_rng(1)
    predicted = random.uniform(0, 10, 60_000).astype(np.float32)
    truth = predicted + random.normal(size=60_000) * (0.1 + predicted)  # the error grows with the value
    found = conformal.for_values(predicted[:20_000], truth[:20_000], predicted[20_000:], truth[20_000:])
    assert found is not None
    for coverage in COVERAGES:
        assert found.tested[f"{coverage:g}"]["coverage"] == pytest.approx(coverage, abs=0.015)
    low, high = found.intervals(found.level(0.9), predicted[20_000:])
    for lowest in (0.0, 8.0):
        inside = (predicted[20_000:] >= lowest) & (predicted[20_000:] < lowest + 2)
        held = ((low <= truth[20_000:]) & (truth[20_000:] <= high))[inside]
        assert held.mean() == pytest.approx(0.9, abs=0.03)


def test_sets_cover_what_they_promise() -> None:
    """Prediction sets hold the true class at least as often as asked."""
    random = np.random.default_rng(2)
    probabilities = random.dirichlet([0.6, 0.6, 0.6, 0.6], 30_000).astype(np.float32)
    codes = np.array([random.choice(4, p=row / row.sum()) for row in probabilities.astype(np.float64)])
    found = conformal.for_classes(probabilities[:10_000], codes[:10_000], probabilities[10_000:], codes[10_000:])
    assert found is not None
    for coverage in COVERAGES:
        assert found.tested[f"{coverage:g}"]["coverage"] >= coverage - 0.015


def test_few_rows_give_few_coverages() -> None:
    """Nine rows support 0.9 and no more; no row supports nothing."""
    nine = conformal.for_values(np.arange(9.0), np.zeros(9), np.arange(9.0), np.zeros(9))
    assert nine is not None
    assert nine.coverages[-1] == 0.9
    none = np.empty(0)
    assert conformal.for_values(none, none, none, none) is None
