"""A check ends between two runs, and says from time to time how far it is."""

from itertools import count

import numpy as np
import pytest

from batchproof.service.invariance import time_budget
from batchproof.service.invariance.time_budget import TimeBudget

BATCHES = [np.arange(4), np.arange(4), np.arange(2)]


def test_without_a_limit_all_batches_run() -> None:
    """No limit yields every batch and is never over."""
    budget = TimeBudget()

    assert [len(batch) for batch in budget.within(BATCHES)] == [4, 4, 2]
    assert not budget.is_over


def test_the_time_ends_between_two_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the seconds are used up no further batch is yielded."""
    clock = count(0.0, 1.0)  # each look at the clock is a second later
    monkeypatch.setattr(time_budget.time, "perf_counter", lambda: next(clock))

    assert len(list(TimeBudget(2.5).within(BATCHES))) < len(BATCHES)


def test_progress_is_said_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow check says how many rows ran, and no more often than every three seconds."""
    clock, sentences = count(0.0, 2.0), list[str]()
    monkeypatch.setattr(time_budget.time, "perf_counter", lambda: next(clock))
    list(TimeBudget(None, sentences.append).within([np.arange(5)] * 4))

    assert sentences == ["10 rows run in 4 s", "20 rows run in 8 s"]


def test_pauses_follow_the_time_of_each_batch_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch is followed by a pause of so many times its seconds; together they last no longer than the bound."""
    pauses = list[float]()
    clock = count(0.0, 0.5)
    monkeypatch.setattr(time_budget.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(time_budget.time, "sleep", pauses.append)
    monkeypatch.setattr(time_budget, "MOST_PAUSE_S", 4.0)
    budget = TimeBudget(pause_factor=3.0)

    assert [len(batch) for batch in budget.within([*BATCHES, *BATCHES])] == [4, 4, 2, 4, 4, 2]
    assert pauses == [1.5, 1.5, 1.0]
