"""Calendar parts of dates: the second of the day, the day of the week and the day of the year, as further numeric columns.

A date is one number, the seconds since 1970, and what recurs every day or week is hundreds of turns in it, which neither bins
nor a network finds. The parts are encoded like any other number.

With t = date + origin, a part is Floor((t - period · Floor(t / period)) / unit): each node is one correctly rounded operation.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from batchproof.training.preprocessing.numbers.scaling import limits
from batchproof.training.preprocessing.onnx_graph import Graph

DAY_S = 86_400.0
YEAR_S = 365.2425 * DAY_S  # the mean of the Gregorian calendar
FAR_S = (
    2.0**38
)  # dates are limited to some 8 700 years on either side of 1970, so that no quotient is inexact by a whole period


class Part(NamedTuple):
    """One recurring part of a date."""

    period: float  # seconds after which it recurs
    unit: float  # seconds of one step
    origin: float  # seconds from where a period begins to 1970


PARTS = (
    Part(DAY_S, 1.0, 0.0),
    Part(7.0 * DAY_S, DAY_S, 3.0 * DAY_S),  # 1970 began on a Thursday: a Monday is 0
    # Leap years move the first of January around the beginning of the mean year: from 1969 to 2100 it is day 0 or 1.
    Part(YEAR_S, DAY_S, 0.5 * DAY_S),
)


@dataclass(frozen=True)
class Calendar:
    """The parts of all dates, side by side."""

    column: np.ndarray  # [parts] int64, which numeric column the part reads
    period: np.ndarray  # [parts] float64, in seconds, as are the others
    unit: np.ndarray  # [parts] float64
    origin: np.ndarray  # [parts] float64

    def of(self, numeric: np.ndarray, part: int) -> np.ndarray:
        """Return one part of the dates in `numeric` [rows, columns] float64, of which NaN are missing [rows] float64."""
        return of_dates(numeric[:, self.column[part]], Part(self.period[part], self.unit[part], self.origin[part]))

    def columns_of(self, numeric: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the parts one after another [rows, 1] float64."""
        for part in range(len(self.column)):
            yield self.of(numeric, part)[:, None]

    def emit(self, graph: Graph, numeric: str) -> str:
        """Append the nodes for `numeric` [rows, columns] float64 without NaN; returns the parts [rows, parts] float64."""
        dates = graph.add("Gather", [numeric, graph.constant("date_column", self.column)], "dates", axis=1)
        dates = graph.add("Clip", [dates, *limits(graph, "date_bound", -FAR_S, FAR_S)], "dates_near")
        period = graph.constant("date_period", self.period)
        t = graph.add("Add", [dates, graph.constant("date_origin", self.origin)], "date_seconds")
        turns = graph.add("Floor", [graph.add("Div", [t, period], "date_turns")], "date_whole_turns")
        rest = graph.add("Sub", [t, graph.add("Mul", [turns, period], "date_begin")], "date_rest")
        steps = graph.add("Div", [rest, graph.constant("date_unit", self.unit)], "date_steps")
        return graph.add("Floor", [steps], "date_parts")


def of_dates(dates: np.ndarray, part: Part) -> np.ndarray:
    """Return one part of `dates` [rows] float64 seconds since 1970, with the operations of the graph; NaN stays NaN."""
    t = np.clip(dates, -FAR_S, FAR_S) + part.origin
    return np.asarray(np.floor((t - part.period * np.floor(t / part.period)) / part.unit))


def fit(numeric: np.ndarray, dates: Iterable[int]) -> Calendar | None:
    """Choose the parts of the columns `dates` of `numeric` [rows, columns] float64; None where there are none.

    A part says something where the dates span more than its period, within which the date itself says as much, and
    where it is not the same for all rows, as is the time of day of mere days.
    """
    found = [(column, part) for column in dates for part in PARTS if _recurs(numeric[:, column], part)]
    if not found:
        return None
    period, unit, origin = (np.asarray(values) for values in zip(*(part for _, part in found), strict=True))
    return Calendar(np.asarray([column for column, _ in found], np.int64), period, unit, origin)


def _recurs(dates: np.ndarray, part: Part) -> bool:
    if not np.nanmax(dates) - np.nanmin(dates) > part.period:
        return False
    parts = of_dates(dates, part)
    return bool(np.nanmin(parts) < np.nanmax(parts))
