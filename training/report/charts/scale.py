"""A linear scale from values to positions in a drawing, with round ticks, and numbers as text."""

import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np

TICKS = 6  # approximate number of ticks


class Scale(NamedTuple):
    """Values from `low` to `high` map to positions from `start` to `end`, in units of the drawing."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Return the position of a value; values beyond the ends are clipped."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def ticks(self, about: int = TICKS) -> list[float]:
        """Return about `about` round values within the scale."""
        step = round_step((self.high - self.low) / about)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


def around(values: Iterable[float], start: float, end: float, *, margin: float = 0.04, zero: bool = False) -> Scale:
    """Return a scale over all finite values, and zero if requested, with a margin at both ends."""
    finite = [value for value in values if math.isfinite(value)] + ([0.0] if zero else [])
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    room = (high - low) * margin or abs(high) * 0.1 or 1.0
    return Scale(low if zero and low == 0.0 else low - room, high + room, start, end)


def round_step(step: float) -> float:
    """Return the least of 1, 2, 2.5, 5 times a power of ten that is at least `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * power >= step * (1 - 1e-9))


def number(value: float) -> str:
    """Return a value for an axis or a cell: four significant digits, thousands as k and M."""
    if not math.isfinite(value):
        return "none"
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            unit = 1e3 if sign == "k" else size
            return f"{value / unit:.4g}{sign}"
    return f"{value + 0.0:.4g}"


def percent(share: float, digits: int = 1) -> str:
    """Return a share as text: 0.897 is 89.7 %."""
    return f"{100 * share:.{digits}f} %"


def day(seconds: float) -> str:
    """Return the day of a time in seconds since 1970: 2024-02-29."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).date().isoformat()


def thinned(values: np.ndarray, most: int) -> np.ndarray:
    """Return at most `most` evenly spaced indices of an array [n] int64."""
    return np.unique(np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(np.int64))
