"""Windows of time: rows are counted into the running one, and figures are of the last one that ended.

Windows begin at multiples of their length since 1970, so those of all workers are the same and their counts add up. A window
is looked at once, when it has ended: the chance of a false alarm is stated for one look, and would grow with each one more.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from batchproof.service.drift.counts import Layout, WindowCounts, counted
from batchproof.service.drift.report import WindowReport, assess

SETTLE_S = 3.0  # after its end, until the last counts of all workers are there
KEPT = 3  # windows: the running one, the last, and the one before it, which is reported until the last has settled
UNITS = ((86400, "d"), (3600, "h"), (60, "m"))


def label(length_s: float) -> str:
    """Return a window's length as metrics name it: `1d`, `1h`, `15m`, `90s`."""
    for seconds, unit in UNITS:
        if length_s % seconds == 0:
            return f"{length_s / seconds:.0f}{unit}"
    return f"{length_s:g}s"


class Windows:
    """The running windows of one model in one process, and those before them."""

    def __init__(self, layout: Layout, lengths_s: Sequence[float]) -> None:
        """Start with none."""
        self.rows = 0  # ever counted
        self._layout = layout
        self._lengths_s = lengths_s
        self._counts: dict[str, dict[int, WindowCounts]] = {label(length): {} for length in lengths_s}

    def add(self, counts: WindowCounts, now_s: float) -> None:
        """Count rows in the windows of this moment."""
        self.rows += counts.rows
        for length in self._lengths_s:
            number = int(now_s // length)
            windows = self._counts[label(length)]
            for old in [other for other in windows if not number - KEPT < other <= number]:
                del windows[old]
            windows.setdefault(number, WindowCounts(self._layout)).add(counts)

    def as_plain(self) -> dict[str, Any]:
        """Return the counts as plain data: {length: {number of the window since 1970: counts}}."""
        return {
            name: {str(number): counts.as_plain() for number, counts in windows.items()}
            for name, windows in self._counts.items()
        }


class Ended(NamedTuple):
    """The last window of one length that ended, and the rows of the one that runs."""

    name: str
    length_s: float
    number: int  # of the window that ended, since 1970
    report: WindowReport | None  # None where no row was counted
    running_rows: int

    def as_dict(self, most: int | None = None) -> dict[str, Any]:
        """Return everything for JSON; of the figures at most `most`, the foremost ones."""
        begin_s = self.number * self.length_s
        report = self.report if self.report is not None else WindowReport(0, ())
        return {
            "window": self.name,
            "from": _moment(begin_s),
            "until": _moment(begin_s + self.length_s),
            "running_rows": self.running_rows,
            **report.as_dict(most),
        }


class DriftReports:
    """The figures of all workers' windows; each window's are computed once."""

    def __init__(self, lengths_s: Sequence[float], clock: Callable[[], float] = time.time) -> None:
        """Report windows of these lengths."""
        self._lengths_s = lengths_s
        self._clock = clock
        self._known: dict[tuple[int, str], tuple[int, WindowReport]] = {}  # by layout and length: the last report

    def of(self, layout: Layout, plain: Mapping[str, Any]) -> list[Ended]:
        """Return the last ended window of each length; `plain` are the model's counts, summed over workers."""
        return [
            self._ended(layout, length, plain.get("windows", {}).get(label(length), {})) for length in self._lengths_s
        ]

    def _ended(self, layout: Layout, length_s: float, windows: Mapping[str, Any]) -> Ended:
        now_s = self._clock()
        number = int((now_s - SETTLE_S) // length_s) - 1
        running = windows.get(str(int(now_s // length_s)), {}).get("rows", 0)
        key = (id(layout), label(length_s))
        known = self._known.get(key)
        if known is None or known[0] != number:
            counts = windows.get(str(number))
            if counts is None:
                return Ended(label(length_s), length_s, number, None, running)
            known = self._known[key] = (number, assess(layout, counted(layout, counts)))
        return Ended(label(length_s), length_s, number, known[1], running)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
