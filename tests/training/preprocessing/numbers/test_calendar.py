"""Calendar parts of dates: what recurs is encoded, by the operations that the graph has."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproof.service.features.arrays import Arrays
from batchproof.service.inference.engine import Engine, EngineOptions
from batchproof.training.preprocessing.fitting import Encoding, fit
from batchproof.training.preprocessing.numbers import calendar
from batchproof.training.preprocessing.numbers.calendar import DAY_S, PARTS
from batchproof.training.preprocessing.onnx_graph import Graph, TensorProto
from batchproof.training.preprocessing.preprocess import Preprocess

START = datetime(1970, 1, 1, tzinfo=UTC)
DAY, WEEK, YEAR = PARTS


def seconds(*dates: datetime) -> np.ndarray:
    return np.array([(date - START).total_seconds() for date in dates])


def hours(count: int, step_h: int = 1) -> np.ndarray:
    """Dates [count, 1] from 2020 on."""
    return seconds(datetime(2020, 1, 1, tzinfo=UTC))[:, None] + 3600.0 * step_h * np.arange(count)[:, None]


def fitted(numeric: np.ndarray, encoding: Encoding, ordered: np.ndarray | None = None) -> Preprocess:
    y = np.arange(len(numeric), dtype=np.float64)
    return fit(Arrays(numeric, None), y, classes=False, encoding=encoding, ordered=ordered, dates=[0])


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)))  # noqa: DTZ001 - hypothesis asks for naive ends
def test_time_of_day_and_weekday_are_those_of_the_calendar(naive: datetime) -> None:
    """For every second from year 1 to year 9999, before 1970 too."""
    date = naive.replace(microsecond=0, tzinfo=UTC)
    passed = date - date.replace(hour=0, minute=0, second=0)
    assert calendar.of_dates(seconds(date), DAY).tolist() == [passed.total_seconds()]
    assert calendar.of_dates(seconds(date), WEEK).tolist() == [date.weekday()]


def test_the_first_of_january_begins_the_year() -> None:
    """Leap years move it by one day at most, from 1969 to 2100."""
    firsts = [datetime(year, 1, 1, tzinfo=UTC) for year in range(1969, 2101)]
    assert set(calendar.of_dates(seconds(*firsts), YEAR)) <= {0.0, 1.0}
    middle = datetime(2024, 7, 1, tzinfo=UTC)
    assert calendar.of_dates(seconds(middle), YEAR) == pytest.approx((middle - firsts[2024 - 1969]).days, abs=1)


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=5))
def test_the_graph_has_the_bits_that_the_fit_saw(values: list[float]) -> None:
    """Edges lie where the served numbers lie; no number, infinities among them, becomes NaN."""
    rows = np.array(values)[:, None]
    parts = calendar.fit(hours(24 * 400), [0])
    assert parts is not None
    graph = Graph()
    numeric = graph.input("numeric", TensorProto.DOUBLE, 1)
    graph.output("x", parts.emit(graph, numeric), TensorProto.DOUBLE, len(PARTS))
    x = Engine(graph.model("calendar").SerializeToString(), EngineOptions(device="cpu")).run(Arrays(rows, None))["x"]
    assert x.tobytes() == np.stack([parts.of(rows, part) for part in range(len(PARTS))], axis=1).tobytes()
    assert np.isfinite(x).all()


def test_a_part_is_added_where_the_date_does_not_say_it() -> None:
    """Within one period the date itself says as much; mere days have no time of day, and Mondays no weekday."""

    def units(dates: np.ndarray) -> list[float]:
        found = calendar.fit(dates, [0])
        return [] if found is None else found.period.tolist()

    assert units(hours(24)) == []
    assert units(hours(48)) == [DAY.period]
    assert units(hours(24 * 30)) == [DAY.period, WEEK.period]
    assert units(hours(30, 24)) == [WEEK.period]
    assert units(hours(30, 7 * 24)) == []
    assert units(hours(60, 7 * 24)) == [YEAR.period]
    assert units(np.full((9, 1), 5.0)) == []


def test_a_missing_date_has_the_parts_of_the_median() -> None:
    """NaN is no date: it does not count in the fit, and is filled before the parts are taken."""
    dates = hours(24 * 30 + 1)
    with_gap = np.concatenate([dates, [[np.nan]]])
    preprocess = fitted(with_gap, Encoding(edges=None))
    assert preprocess.calendar is not None
    x = preprocess.transform(Arrays(np.array([[np.nan], [np.median(dates)]]), None))
    assert x[0, :-1].tobytes() == x[1, :-1].tobytes()
    assert x[:, -1].tolist() == [1.0, 0.0]


def test_parts_are_encoded_as_numbers_are() -> None:
    """Behind the table's own columns: a scaled value each, and bins of their own, weekdays with an edge at each."""
    preprocess = fitted(hours(24 * 30), Encoding())
    assert preprocess.scaling is not None
    assert preprocess.piecewise is not None
    assert (preprocess.columns, len(preprocess.scaling.center), len(preprocess.fill)) == (3, 3, 1)
    bins = preprocess.piecewise
    assert set(bins.column) == {0, 1, 2}
    assert bins.low[bins.column == 2].tolist() == [0, 1, 2, 3, 4, 5]
    assert preprocess.transform(Arrays(hours(5), None)).shape == (5, preprocess.width)
    again = Preprocess.from_arrays(preprocess.to_arrays())
    assert again.transform(Arrays(hours(50), None)).tobytes() == preprocess.transform(Arrays(hours(50), None)).tobytes()


def test_a_date_with_a_direction_has_no_parts() -> None:
    """What recurs goes up and down, and has no direction beside other dates."""
    assert fitted(hours(24 * 30), Encoding(), np.array([0])).calendar is None
    two = np.concatenate([hours(24 * 30), hours(24 * 30)], axis=1)
    y = np.zeros(len(two))
    kinds = Encoding(edges=None)
    preprocess = fit(Arrays(two, None), y, classes=False, encoding=kinds, ordered=np.array([1]), dates=[0, 1])
    assert preprocess.calendar is not None
    assert set(preprocess.calendar.column) == {0}
    assert preprocess.directions(np.array([0, 1], np.int8)).tolist() == [0, 1, 0, 0]


def test_dates_alone_say_what_recurs() -> None:
    """Two instants that are whole weeks apart differ in the date only."""
    preprocess = fitted(hours(24 * 60), Encoding(edges=None))
    x = preprocess.transform(Arrays(np.array([[0.0], [7.0 * DAY_S]]) + hours(24 * 9)[-1], None))
    assert (x[0] == x[1]).tolist() == [False, True, True]


def test_parts_have_few_bins_and_can_be_left_out() -> None:
    """Every other minute of a month gives the time of day no more than 24 bins; an encoding without parts has none."""
    minutes = hours(1) + 120.0 * np.arange(30 * 24 * 30)[:, None]
    preprocess = fitted(minutes, Encoding())
    assert preprocess.piecewise is not None
    counts = np.bincount(preprocess.piecewise.column)
    assert counts[0] > counts[1] == 24
    assert fitted(minutes, Encoding(calendar=False)).calendar is None
