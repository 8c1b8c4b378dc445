"""A worker is killed in each phase of a reload: whatever it had done by then, all that serve change together.

No process is slowed from within. A worker that is stopped leaves the supervisor's letter unread, and a large model takes
seconds to check, so that each phase lasts until the test goes on.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.bundles import make_bundle, network
from tests.http_client import ask
from tests.live import Live, live
from tests.service.server.test_reload import (
    BODY,
    events_until,
    hang_up,
    put,
    until_event,
    until_ready,
    versions,
    workers_of,
)

PATIENT = ("--workers", "2", "--heartbeat-s", "120", "--timeout-s", "120")  # the supervisor kills nobody in this test


@contextmanager
def serving(tmp_path: Path, hidden: int = 16) -> Iterator[tuple[Live, list[int]]]:
    """Serve version 1 with two workers, with version 2 put beside it; yields the process ids of the workers."""
    models = tmp_path / "models"
    put(models, 1)
    with live(models, *PATIENT) as server:
        until_ready(server, "2")
        make_bundle(tmp_path / "aside", version=2, seed=2, graph=network(seed=2, hidden=hidden)).rename(
            models / "flowers" / "2"
        )
        yield server, workers_of(server)


def until(is_so: Callable[[], bool]) -> None:
    """Wait until it is so."""
    end_s = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.001)


def threads_of(pid: int) -> int:
    """Return how many threads a process has."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def loaded(events: list[dict[str, Any]]) -> list[int]:
    """Return the versions that workers loaded, in order."""
    return [one["version"] for one in events if one["event"] == "model_loaded"]


def answered(server: Live) -> int | None:
    """Return the version that a worker which runs answers with; None where the one that is stopped got the connection."""
    try:
        answer = httpx.post(f"{server.url}/predict", json=BODY, timeout=1.0)
    except httpx.TimeoutException:
        return None
    return int(answer.json()["model"]["version"])


def all_serve(server: Live, version: int, generation: int) -> None:
    """Assert that every worker serves this version and no other, as the same generation."""
    assert versions(server) == {version}
    assert {ask(server, "GET", "/health/ready").content["generation"] for _ in range(4)} == {generation}


@pytest.mark.parametrize("moment", ["before it reads the letter", "in the midst of its check"])
def test_a_worker_that_is_killed_while_it_loads(tmp_path: Path, moment: str) -> None:
    """Nobody swaps until the worker that takes its place has loaded the new version too."""
    with serving(tmp_path, hidden=30_000) as (server, (victim, _)):
        threads = threads_of(victim)
        if moment == "before it reads the letter":
            os.kill(victim, signal.SIGSTOP)
        hang_up(server)
        if moment == "before it reads the letter":
            assert until_event(server, "model_loaded")["version"] == 2
            assert answered(server) in (1, None)
        else:
            until(lambda: threads_of(victim) > threads)
        os.kill(victim, signal.SIGKILL)
        events = events_until(server, "reloaded")
        others = 0 if moment == "before it reads the letter" else 1
        assert loaded(events).count(2) == others + 1, "the victim had loaded it"
        all_serve(server, 2, generation=2)


def test_a_worker_that_is_killed_while_it_swaps(tmp_path: Path) -> None:
    """A worker that has loaded the new version and dies before it serves it holds nobody up; its place has the new one."""
    with serving(tmp_path) as (server, (victim, other)):
        os.kill(other, signal.SIGSTOP)
        hang_up(server)
        until_event(server, "model_loaded")  # the victim's: the other one is stopped
        until(lambda: is_idle(victim))  # it has said so too
        os.kill(victim, signal.SIGSTOP)
        os.kill(other, signal.SIGCONT)
        until(lambda: answered(server) == 2)  # so every worker had loaded it, and the victim has its COMMIT unread
        os.kill(victim, signal.SIGKILL)
        until_event(server, "reloaded")
        until_event(server, "ready")
        all_serve(server, 2, generation=2)


def is_idle(pid: int) -> bool:
    """Return whether no thread of a process has used a core for a while."""
    before = cpu_ticks(pid)
    time.sleep(0.3)
    return cpu_ticks(pid) - before <= 1


def cpu_ticks(pid: int) -> int:
    """Return how much time of all cores a process has used, in ticks of the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])
