"""What is believed of a row's time after runs of many sizes."""

import pytest

from batchproof.service.inference.admission import FIRST_ROW_S, Pace


def test_the_first_guess_gives_way_to_what_was_measured() -> None:
    """After a few runs of an ordinary size the estimate is the measured time of a row."""
    pace = Pace()
    assert pace.row_s == FIRST_ROW_S
    for _ in range(20):
        pace.ran(32, 32 * 300e-6)
    assert pace.row_s == pytest.approx(300e-6, rel=0.05)


def test_large_runs_say_more_than_small_ones() -> None:
    """The fixed part of a run counts as little as the rows it was paid for."""
    pace = Pace()
    for _ in range(10):
        pace.ran(1, 20e-6)
        pace.ran(1000, 2000e-6)
    assert pace.row_s == pytest.approx(2e-6, rel=0.05)


def test_one_stall_is_forgotten() -> None:
    """A run that the host held up for 50 ms is no longer seen after as many runs as a few milliseconds hold."""
    pace = Pace()
    for seconds in [20e-6] * 50 + [50e-3] + [20e-6] * 100:
        pace.ran(1, seconds)
    assert pace.row_s == pytest.approx(20e-6, rel=0.05)


def test_no_rows_say_nothing() -> None:
    """A run of no rows leaves the estimate as it is."""
    pace = Pace()
    pace.ran(0, 1.0)
    assert pace.row_s == FIRST_ROW_S


def test_a_new_version_begins_with_what_the_old_one_learned() -> None:
    """A pace that follows another has its estimate, and learns from its own runs after that."""
    old, new = Pace(), Pace()
    for _ in range(20):
        old.ran(32, 32 * 300e-6)
    new.follow(old)
    assert new.row_s == old.row_s
    new.ran(32, 32 * 3e-6)
    assert new.row_s < old.row_s
