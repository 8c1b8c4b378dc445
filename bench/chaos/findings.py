"""What callers saw, counted; a connection that ended with its worker is told from one that was lost."""

import threading
import time
from collections import Counter
from collections.abc import Callable

SHOWN = 20  # findings of one kind that are told in words
NOTED_S = 5.0  # in which the death of a worker becomes known


class Deaths:
    """Which connections a worker held when it was killed: only their answers may fail to come."""

    def __init__(self) -> None:
        """Begin without a death."""
        self._ports: dict[int, float] = {}  # a caller's port -> monotonic seconds of the death
        self._last_s = -1.0
        self._starved_s = -1.0
        self._lock = threading.Lock()

    def add(self, ports: set[int]) -> None:
        """Note that the worker that holds the connections from these ports of callers dies now."""
        now_s = time.monotonic()
        with self._lock:
            self._ports.update(dict.fromkeys(ports, now_s))
            self._last_s = now_s

    def add_starved(self) -> None:
        """Note that a worker died that nobody harmed: it had no processor time for so long that the service replaced it."""
        with self._lock:
            self._last_s = self._starved_s = time.monotonic()

    def explain(self, port: int, opened_s: float) -> bool:
        """Return whether the connection from `port`, opened then, was held by a worker that died since, or may have been."""
        return self._soon(lambda: max(self._ports.get(port, -1.0), self._starved_s) >= opened_s)

    def since(self, began_s: float) -> bool:
        """Return whether any worker died since."""
        return self._soon(lambda: self._last_s >= began_s)

    def _soon(self, is_known: Callable[[], bool]) -> bool:
        """Return whether this becomes known: a caller may see that its connection ends before the death is noted."""
        end_s = time.monotonic() + NOTED_S
        while time.monotonic() < end_s:
            with self._lock:
                if is_known():
                    return True
            time.sleep(0.02)
        return False


class Findings:
    """Counts of all callers together. Any thread may add."""

    def __init__(self, say: Callable[[str], None] = print) -> None:
        """Begin at nothing; what must not be is said as it is found."""
        self._say = say
        self.answers: Counter[str] = Counter()  # right ones, by kind
        self.refused: Counter[str] = Counter()  # by status and code
        self.ended = 0  # with a worker that was killed
        self.left: Counter[str] = Counter()  # requests whose caller did not wait, by how it left
        self.faults: Counter[str] = Counter()  # that were done to the service
        self.wrong: Counter[str] = Counter()  # crossed, lost, hung, unhandled: what must not be
        self.latencies_ms: list[float] = []  # of single requests of one row since they were last taken
        self._lock = threading.Lock()

    def right(self, kind: str, count: int = 1) -> None:
        """Count right answers."""
        with self._lock:
            self.answers[kind] += count

    def took(self, milliseconds: float) -> None:
        """Note the time of one answer."""
        with self._lock:
            self.latencies_ms.append(milliseconds)

    def take_latencies(self) -> list[float]:
        """Return the times since the last call."""
        with self._lock:
            taken, self.latencies_ms = self.latencies_ms, []
        return taken

    def count(self, counter: Counter[str], what: str) -> None:
        """Count one of `refused`, `left` or `faults`."""
        with self._lock:
            counter[what] += 1

    def end_with_worker(self) -> None:
        """Count a request whose worker was killed."""
        with self._lock:
            self.ended += 1

    def add(self, what: str, words: str) -> None:
        """Note something that must not be."""
        with self._lock:
            self.wrong[what] += 1
            count = self.wrong[what]
        if count <= SHOWN:
            self._say(f"{time.strftime('%H:%M:%S')} {what}: {words}")

    def summary(self) -> str:
        """Return the figures in a line."""
        wrong = ", ".join(f"{self.wrong[what]} {what}" for what in ("crossed", "lost", "hung", "unhandled"))
        return (
            f"{sum(self.answers.values())} answers: {wrong}; {sum(self.refused.values())} refused, {self.ended} ended with "
            f"their worker, {sum(self.left.values())} left, {sum(self.faults.values())} faults"
        )
