import itertools

import pytest

from batchproof.training.fit.loop import share


def test_the_rate_rises_to_one_and_falls_to_zero() -> None:
    """A linear warm-up over its share of the steps, then half a cosine."""
    rates = [share(step, 100, 0.1) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[10:]))
    assert rates[-1] < 0.001


def test_a_fit_of_one_step_has_a_rate() -> None:
    """The shortest fit is warm-up alone."""
    assert share(0, 1, 0.05) == 1.0
