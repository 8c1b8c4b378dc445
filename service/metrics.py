"""What operators see at /metrics. The hot path adds plain numbers; text is made when somebody asks.

Each (model, version, dialect) has one `Tally`. Each process writes a snapshot of its tallies to a folder that all
workers share, once a second and when it ends; the worker that is asked adds the snapshots up. So a counter never falls
when a worker is replaced, and an answer costs the hot path about a microsecond and no lock.
"""

import time
from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


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


def add(snapshots: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the sum of snapshots of one key."""
    total = Tally().snapshot()
    for snapshot in snapshots:
        for name, value in snapshot.items():
            if name == "seconds":
                total[name] = [a + b for a, b in zip(total[name], value, strict=True)]
            elif name == "refusals":
                total[name] = {code: total[name].get(code, 0) + value.get(code, 0) for code in {*total[name], *value}}
            else:
                total[name] += value
    return total
