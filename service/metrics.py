"""What operators see at /metrics. The hot path adds plain numbers; text is made when somebody asks.

Each (model, version, dialect) has one `Tally`. Each process writes a snapshot of its tallies to a folder that all
workers share, once a second and when it ends; the worker that is asked adds the snapshots up. So a counter never falls
when a worker is replaced, and an answer costs the hot path about a microsecond and no lock.
"""

import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class Tally:
    """Counts of one model in one dialect."""

    __slots__ = ("cancelled_requests", "decode_s", "encode_s", "ok_requests", "ok_rows", "refusals", "seconds", "sum_s")

    def __init__(self) -> None:
        """Start at zero."""
        self.ok_requests = 0
        self.ok_rows = 0
        self.decode_s = 0.0
        self.encode_s = 0.0
        self.sum_s = 0.0  # seconds from the whole request's arrival to its answer
        self.seconds = [0] * (len(SECONDS) + 1)  # answers by those seconds: not cumulative; the last is beyond all
        self.refusals: dict[str, int] = {}
        self.cancelled_requests = 0

    def answered(self, rows: int, encoding_s: float, started_s: float) -> None:
        """Count an answer whose encoding began at `encoding_s`; both times are of time.perf_counter."""
        now_s = time.perf_counter()
        total_s = now_s - started_s
        self.ok_requests += 1
        self.ok_rows += rows
        self.encode_s += now_s - encoding_s
        self.sum_s += total_s
        self.seconds[bisect_left(SECONDS, total_s)] += 1

    def refused(self, code: str) -> None:
        """Count a refusal by its code."""
        self.refusals[code] = self.refusals.get(code, 0) + 1

    def cancelled(self) -> None:
        """Count a caller that went away before its answer."""
        self.cancelled_requests += 1

    def snapshot(self) -> dict[str, Any]:
        """Return the counts as plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


class Flow:
    """Counts of one model's batcher; the same for all dialects."""

    __slots__ = (
        "cancelled_tickets",
        "failed_runs",
        "late_tickets",
        "queue_s",
        "rows",
        "run_s",
        "runs_by_rows",
        "saturated_rows",
    )

    def __init__(self) -> None:
        """Start at zero."""
        self.rows = 0  # rows that ran
        self.run_s = 0.0
        self.queue_s = 0.0  # summed over the tickets that ran: from admission to the start of their run
        self.runs_by_rows = [0] * (len(ROWS) + 1)  # not cumulative; the last is beyond all
        self.late_tickets = 0
        self.cancelled_tickets = 0
        self.failed_runs = 0
        self.saturated_rows = 0  # of exact models: rows with a hidden value beyond the range of its grid

    def ran(self, rows: int, seconds: float) -> None:
        """Count one batch."""
        self.rows += rows
        self.run_s += seconds
        self.runs_by_rows[bisect_left(ROWS, rows)] += 1

    def snapshot(self) -> dict[str, Any]:
        """Return the counts as plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


def add(snapshots: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sum of snapshots: numbers, lists by place, and mappings by key, as deep as they go."""
    total: dict[str, Any] = {}
    for snapshot in snapshots:
        for name, value in snapshot.items():
            if name not in total:
                total[name] = add([value]) if isinstance(value, Mapping) else value
            elif isinstance(value, Mapping):
                total[name] = add([total[name], value])
            elif isinstance(value, list):
                total[name] = [one + other for one, other in zip(total[name], value, strict=True)]
            else:
                total[name] += value
    return total


class Counters:
    """The counts of this process and, through a folder, of all workers that ever ran since the start."""

    def __init__(self, folder: Path | None, read: Callable[[], dict[str, Any]]) -> None:
        """Read this process's counts with `read`; without a `folder` there are no other workers."""
        self._folder = folder
        self._read = read

    def write(self) -> None:
        """Write this process's counts down for the others, in one step."""
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{os.getpid()}.json"
            unfinished = path.with_suffix(".part")
            unfinished.write_bytes(orjson.dumps(self._read()))
            unfinished.replace(path)

    def total(self) -> dict[str, Any]:
        """Return the sum over all workers; what a worker holds now, such as queued rows, only of those that live."""
        if self._folder is None:
            return add([self._read()])
        self.write()
        found = {path.stem: orjson.loads(path.read_bytes()) for path in self._folder.glob("*.json")}
        for pid, counts in found.items():
            if not Path(f"/proc/{pid}").exists():
                del counts["now"]
        return add(found.values())
