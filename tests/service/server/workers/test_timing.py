"""When a worker that could not start is started again."""

import pytest

from batchproof.service.server.workers import timing
from batchproof.service.server.workers.timing import FIRST_S, LONGEST_S, MOST_ATTEMPTS, Restarts


def test_attempts_are_ever_rarer_and_end_where_none_would_help(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait doubles up to its bound; after a number of failures in a row the slot is hopeless, until one succeeds."""
    now_s = 100.0
    monkeypatch.setattr(timing.time, "monotonic", lambda: now_s)
    restarts = Restarts()
    waits = []
    for attempt in range(10):
        assert restarts.is_hopeless(0) == (attempt + 1 >= MOST_ATTEMPTS)
        waits.append(restarts.plan(0))
        assert not restarts.due()
        assert restarts.next_s() == [waits[-1]]
        now_s += waits[-1]
        assert restarts.due() == [0]
        assert not restarts
    assert waits[:3] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S]
    assert waits[-1] == LONGEST_S
    restarts.succeeded(0)
    assert restarts.plan(0) == FIRST_S


def test_slots_are_planned_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each slot has its own failures and its own time; what is cleared is never due."""
    monkeypatch.setattr(timing.time, "monotonic", lambda: 100.0)
    restarts = Restarts()
    restarts.plan(0)
    restarts.plan(0)
    assert restarts.plan(1) == FIRST_S
    restarts.clear()
    monkeypatch.setattr(timing.time, "monotonic", lambda: 1000.0)
    assert not restarts
    assert not restarts.due()
