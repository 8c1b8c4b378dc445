"""The figures of change keep their promise: where nothing changed, they pass their points as seldom as stated."""

import numpy as np
import pytest
from scipy import stats

from batchproof.service.drift.statistics import (
    chi_square_point,
    chi_square_tail,
    most_by_chance,
    share,
    stability,
    upper_tail,
)


@pytest.mark.parametrize("degrees", [1, 2, 3, 9, 12, 65])
@pytest.mark.parametrize("alpha", [1e-2, 1e-3, 1e-5, 1e-8])
def test_points_of_chi_square(degrees: int, alpha: float) -> None:
    """The finite sum and its inverse agree with an independent implementation."""
    assert chi_square_point(degrees, alpha) == pytest.approx(stats.chi2.isf(alpha, degrees), rel=1e-9)
    assert chi_square_tail(degrees / 2, degrees) == pytest.approx(stats.chi2.sf(degrees / 2, degrees), rel=1e-12)


@pytest.mark.parametrize(
    "n, y, m", [(1000, 0, 5000), (1000, 3, 5000), (2000, 700, 9000), (50, 1, 60), (1000, 990, 1000)]
)
def test_tail_is_bounded_closely(n: int, y: int, m: int) -> None:
    """The bound of Fisher's tail is never below it, and near it where it matters."""
    for x in range(n * y // m + 1, n, max(n // 50, 1)):
        exact = stats.hypergeom.sf(x - 1, n + m, x + y, n)
        bound = upper_tail(x, n, y, m)
        assert bound >= exact * (1 - 1e-9)
        if 1e-12 < exact < 1e-3:
            assert bound <= 1.5 * exact


@pytest.mark.parametrize("n, y, m", [(1000, 0, 5000), (1000, 3, 5000), (2000, 700, 9000)])
def test_the_point_of_a_share_is_the_last_that_chance_explains(n: int, y: int, m: int) -> None:
    """At the point the tail is above alpha, one row beyond it is not."""
    x = most_by_chance(n, y, m, 1e-4)
    assert upper_tail(x, n, y, m) > 1e-4 >= upper_tail(x + 1, n, y, m)


def test_a_share_that_is_certain_cannot_drift() -> None:
    """Where every training row has it, so may every row of a window."""
    figure = share(1000, 1000, 5000, 5000, 1e-5)
    assert figure is not None
    assert not figure.is_drift


@pytest.mark.parametrize("n, m", [(1000, 240), (1000, 20_000), (20_000, 20_000)])
@pytest.mark.parametrize(
    "shares",
    [
        [0.1] * 10,
        [0.02, 0.98],
        [0.999, 0.001],
        [0.9, 0.05, 0.03, 0.01, 0.01],
        [0.5, 0.3, 0.1, 0.05, 0.03, 0.01, 0.005, 0.005],
    ],
)
def test_stability_passes_its_point_by_chance_as_seldom_as_stated(shares: list[float], n: int, m: int) -> None:
    """Of 20 000 pairs of samples of one population, at most 1 in 100 is beyond the point of 1 in 100."""
    rng = np.random.default_rng(3)
    training, window = rng.multinomial(m, shares, 20_000), rng.multinomial(n, shares, 20_000)
    figures = [stability(before, after, 0.01) for before, after in zip(training, window, strict=True)]
    beyond = sum(figure is not None and figure.is_drift for figure in figures)
    assert beyond <= 200 + 3 * np.sqrt(200)


@pytest.mark.parametrize("n, m", [(1000, 240), (1000, 5000), (20_000, 20_000)])
def test_values_outside_the_training_range(n: int, m: int) -> None:
    """Of pairs of samples of one continuous population, as many as stated have so many values outside the range."""
    rng = np.random.default_rng(5)
    point = most_by_chance(n, 1, m, 0.01)
    beyond = 0
    for _ in range(4000):
        training, window = rng.random(m), rng.random(n)
        beyond += np.count_nonzero((window < training.min()) | (window > training.max())) > point
    assert beyond <= 40 + 3 * np.sqrt(40)


def test_shifted_shares_are_found() -> None:
    """A change that matters is beyond the point at a thousand rows, even at one chance in a million."""
    rng = np.random.default_rng(1)
    training = rng.multinomial(20_000, [0.1] * 10)
    window = rng.multinomial(1000, [0.05, 0.05, *[0.1] * 6, 0.15, 0.15])
    figure = stability(training, window, 1e-6)
    assert figure is not None
    assert figure.is_drift


def test_what_training_never_saw_is_found() -> None:
    """A column that was constant in training drifts when other values come, and not by chance."""
    training = np.array([5000, 0, 0])
    for rows, is_drift in ((0, False), (1, False), (30, True), (1000, True)):
        figure = stability(training, np.array([1000 - rows, rows, 0]), 1e-5)
        assert figure is not None
        assert figure.is_drift is is_drift


def test_too_few_rows_have_no_figure() -> None:
    """Where a sample is empty there is no figure instead of a wrong one."""
    assert stability(np.array([0, 0]), np.array([1, 1]), 1e-3) is None
    assert share(0, 0, 1, 10, 1e-3) is None
