"""What a service holds over time, and whether that is flat."""

import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from bench.chaos.findings import Findings
from bench.chaos.service import Service

WARM_SHARE = 0.2  # of the time, at the beginning, which is left out
BLOCKS = 12  # of the rest, whose means are compared: neighbouring samples are not independent
ERRORS = 3.0  # standard errors beyond which a slope is not chance
FLAT_SHARE = 0.01  # of the mean, an hour, below which a slope does not matter
SEEN_SHARE = 0.1  # of the mean, an hour: a growth that must have stood out before a figure is called flat
MIB = 1 << 20


class Sample(NamedTuple):
    """One look at all processes of the service together."""

    seconds: float
    memory_mib: float  # PSS: a page that several processes share counts once
    descriptors: int
    threads: int
    p50_ms: float  # of the single requests since the last look; NaN without any
    p99_ms: float


class Trend(NamedTuple):
    """The straight line through a figure."""

    mean: float
    slope_per_h: float
    error_per_h: float  # standard error of the slope

    @property
    def verdict(self) -> Literal["flat", "GROWS", "unclear"]:
        """Return whether it grows by more than chance and by more than matters, or is too uncertain to say."""
        if self.slope_per_h > max(ERRORS * self.error_per_h, FLAT_SHARE * abs(self.mean)):
            return "GROWS"
        would_show = self.slope_per_h + ERRORS * self.error_per_h <= SEEN_SHARE * abs(self.mean)
        return "flat" if would_show else "unclear"  # neither of them where it is not a number


def trend(seconds: Sequence[float], values: Sequence[float]) -> Trend:
    """Return the line of least squares through means of blocks; a block without a figure is left out."""
    times, figures = np.asarray(seconds, float), np.asarray(values, float)
    late = times >= times[0] + WARM_SHARE * (times[-1] - times[0])
    known = late & ~np.isnan(figures)
    hours, figures = times[known] / 3600, figures[known]
    parts = [part for part in np.array_split(np.arange(len(hours)), BLOCKS) if len(part)]
    x, y = (np.array([each[part].mean() for part in parts]) for each in (hours, figures))
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    rest = y - y.mean() - slope * centred
    error = float(np.sqrt(rest @ rest / (len(x) - 2) / (centred @ centred)))
    return Trend(float(y.mean()), slope, error)


class Watch:
    """Looks at a service every few seconds."""

    def __init__(self, service: Service, findings: Findings, every_s: float) -> None:
        """Look every `every_s`."""
        self._service, self._findings, self._every_s = service, findings, every_s
        self.samples: list[Sample] = []

    def run(self, is_over: threading.Event) -> None:
        """Look until it is over."""
        began_s = time.monotonic()
        while not is_over.wait(self._every_s):
            self.samples.append(self._look(time.monotonic() - began_s))

    def trends(self) -> dict[str, Trend]:
        """Return the trend of each figure, by its name."""
        seconds = [sample.seconds for sample in self.samples]
        return {
            name: trend(seconds, [getattr(sample, name) for sample in self.samples])
            for name in Sample._fields
            if name != "seconds"
        }

    def _look(self, seconds: float) -> Sample:
        members = self._service.members()
        latencies = self._findings.take_latencies()
        p50, p99 = np.percentile(latencies, [50, 99]) if latencies else (np.nan, np.nan)
        return Sample(
            seconds,
            sum(_pss_bytes(pid) for pid in members) / MIB,
            sum(_entries(pid, "fd") for pid in members),
            sum(_entries(pid, "task") for pid in members),
            float(p50),
            float(p99),
        )


def table(trends: dict[str, Trend]) -> str:
    """Return a line for each figure: its mean, its slope with its error, and the verdict."""
    lines = [f"{'':12} {'mean':>9} {'slope an hour':>24}"]
    for name, one in trends.items():
        slope = f"{one.slope_per_h:+.3f} ± {one.error_per_h:.3f}"
        lines.append(f"{name:12} {one.mean:9.2f} {slope:>24}  {one.verdict}")
    return "\n".join(lines)


def _pss_bytes(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    return 0


def _entries(pid: int, what: str) -> int:
    with suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/{what}"))  # noqa: PTH208 counted only
    return 0
