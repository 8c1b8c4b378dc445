"""When the supervisor does what: how long it waits, and when it starts a worker again that could not start."""

import time
from typing import NamedTuple

FIRST_S, LONGEST_S = 0.5, 30.0  # between two attempts
MOST_ATTEMPTS = 4  # while no worker is ready; while one is, attempts go on


class Timing(NamedTuple):
    """How long the supervisor waits for what, in seconds."""

    hang_s: float  # for a sign of life of a worker
    stop_delay_s: float  # from SIGTERM to the last connection that is accepted
    drain_s: float  # from there to the last answer


class Restarts:
    """The attempts to start each worker, by slot: ever less often."""

    def __init__(self) -> None:
        """Begin with none planned."""
        self._at_s: dict[int, float] = {}  # monotonic seconds of the next attempt
        self._failed: dict[int, int] = {}  # attempts in a row

    def __bool__(self) -> bool:
        """Return whether an attempt is planned."""
        return bool(self._at_s)

    def plan(self, slot: int) -> float:
        """Plan the next attempt after one that failed; returns the seconds until then."""
        failed = self._failed[slot] = self._failed.get(slot, 0) + 1
        wait_s = min(FIRST_S * (1 << (failed - 1)), LONGEST_S)
        self._at_s[slot] = time.monotonic() + wait_s
        return wait_s

    def is_hopeless(self, slot: int) -> bool:
        """Return whether so many attempts failed that a service with no worker should end."""
        return self._failed.get(slot, 0) + 1 >= MOST_ATTEMPTS

    def succeeded(self, slot: int) -> None:
        """Forget the attempts that failed."""
        self._failed.pop(slot, None)

    def due(self) -> list[int]:
        """Return the slots whose time has come, once."""
        now_s = time.monotonic()
        slots = [slot for slot, at_s in self._at_s.items() if at_s <= now_s]
        for slot in slots:
            del self._at_s[slot]
        return slots

    def next_s(self) -> list[float]:
        """Return the seconds until each planned attempt."""
        now_s = time.monotonic()
        return [at_s - now_s for at_s in self._at_s.values()]

    def clear(self) -> None:
        """Plan nothing any more."""
        self._at_s.clear()
