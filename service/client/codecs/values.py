"""Python values to the JSON that the service reads: what databases, NumPy and frames return, with one meaning for each.

Missing values (None, NaN, NaT, pandas.NA) are null. A text stays the text that it is, an empty one too. Dates and times
are ISO 8601 texts, numbers of any library are numbers. Nothing is imported for it: types are known by their names.
"""

import datetime as dt
import math
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

PLAIN = (str, bool, int, type(None))
MISSING_NAMES = ("NAType", "NaTType")  # pandas.NA and pandas.NaT
FINITE = "expected a finite number within float64"  # the service's own words


class UnreadableValueError(ValueError):
    """A value that JSON has no form for; the message is a clause that says what would be right."""


class InfiniteValueError(UnreadableValueError):
    """An infinite number: JSON has none. A numeric feature reads the text of one, which may mean a missing value."""

    def __init__(self, value: float) -> None:
        """Hold the text, inf or -inf."""
        super().__init__(FINITE)
        self.text = "inf" if value > 0 else "-inf"


def json_value(value: Any) -> Any:
    """Return a value as JSON has it; raises UnreadableValueError for what has no such form."""
    if type(value) in PLAIN:
        return value
    if type(value).__name__ in MISSING_NAMES and type(value).__module__.startswith("pandas"):
        return None
    for kind, read in READERS:
        if isinstance(value, kind):
            return read(value)
    if hasattr(value, "dtype") and getattr(value, "ndim", 1) == 0:  # a NumPy scalar
        return _scalar(value)
    raise UnreadableValueError(
        f"expected a number, a text, true or false, a date or None, got {type(value).__name__} of Python"
    )


def is_one_row(rows: Any) -> bool:
    """Return whether `rows` names its values: a mapping, a named tuple, a row of a database, a pandas Series."""
    if isinstance(rows, Mapping) or (isinstance(rows, tuple) and hasattr(rows, "_fields")):
        return True
    return not isinstance(rows, type) and hasattr(rows, "keys") and hasattr(rows, "__getitem__")


def json_row(row: Any) -> Any:
    """Return a row's values by name where the row names them, else as a list; anything else stays as it is.

    Named tuples, rows of database cursors and pandas Series name their values; values stay unchanged.
    """
    if isinstance(row, Mapping):
        return dict(row)
    if isinstance(row, tuple) and hasattr(row, "_fields"):
        return dict(zip(row._fields, row, strict=True))
    if not isinstance(row, type) and hasattr(row, "keys") and hasattr(row, "__getitem__"):
        return {name: row[name] for name in row.keys()}  # noqa: SIM118 - the row may have nothing but keys()
    if isinstance(row, list | tuple):
        return list(row)
    return list(row) if hasattr(row, "dtype") and getattr(row, "ndim", 0) == 1 else row


def json_values(values: Iterable[Any]) -> list[Any]:
    """Return values as JSON has them; one that has no such form stays, to be refused with its row."""
    listed = list(values)
    if set(map(type, listed)) <= set(PLAIN):
        return listed
    return [_or_itself(value) for value in listed]


def _or_itself(value: Any) -> Any:
    try:
        return json_value(value)
    except UnreadableValueError:
        return value


def _float(value: float) -> float | None:
    if math.isinf(value):
        raise InfiniteValueError(value)
    return None if math.isnan(value) else float(value)


def _decimal(value: Decimal) -> float | int | None:
    """Return a whole number as an integer, which rounds nothing, and any other as the nearest float64."""
    if value.is_nan():
        return None
    if not value.is_finite() or abs(value.adjusted()) > 308:  # no float64 is as large; smaller ones are 0 there
        return _float(float(value))
    return int(value) if value == value.to_integral_value() else _float(float(value))


def _instant(value: dt.datetime) -> str:
    """Return ISO 8601; an offset of hours, minutes and seconds, which it has no form for, is written as UTC."""
    offset = value.utcoffset()
    if offset is not None and offset.total_seconds() % 60:
        value = value.astimezone(dt.UTC)
    return value.isoformat()


def _scalar(value: Any) -> Any:
    """Return a NumPy scalar as JSON has it; a datetime64 is cut to the microsecond."""
    kind = value.dtype.kind
    if kind == "M":
        return _numpy_date(value)
    if kind == "f":
        return _float(float(value))
    if kind in "biuU":
        return value.item()
    raise UnreadableValueError(f"expected a number, a text, true or false, a date or None, got NumPy's {value.dtype}")


def _numpy_date(value: Any) -> str | None:
    """Return a datetime64 as ISO 8601: a day without a time where that is its unit."""
    whole = value if str(value.dtype) == "datetime64[D]" else value.astype("datetime64[us]")
    item = whole.item()
    if item is None:
        return None
    if isinstance(item, dt.date):
        return item.isoformat()
    return str(whole)  # beyond the years 1 to 9999, which the service refuses


def _time(value: dt.time) -> str:
    """Return a time of day as Arrow writes it, and with it training: 12:30:00.000000."""
    return value.isoformat(timespec="microseconds")


READERS: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str),
    (float, _float),
    (Decimal, _decimal),
    (dt.datetime, _instant),
    (dt.date, dt.date.isoformat),
    (dt.time, _time),
    (UUID, str),
)
