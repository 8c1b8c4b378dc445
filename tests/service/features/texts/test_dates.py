"""ISO 8601 texts to seconds."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproof.service.features.texts.date_formats import DateFormatError, begins_with
from batchproof.service.features.texts.dates import ends_in_year, epoch_seconds


@pytest.mark.parametrize(
    "text, seconds",
    [
        ("1970-01-01", 0.0),
        ("1970-01-02T00:00", 86_400.0),
        ("1970-01-01 00:00:01", 1.0),
        ("1970-01-01T00:00:00.25Z", 0.25),
        ("1970-01-01T00:00:00,5", 0.5),
        ("1970-01-01t01:00:00+01:00", 0.0),
        ("1970-01-01T00:00:00-0130", 5400.0),
        ("1970-01-01T02+02".replace("T02", "T02:00"), 0.0),
        ("1969-12-31T23:59:59.999999999z", -1e-6),
        ("0001-01-01T00:00:00+23:59", -62_135_683_140.0),
        ("9999-12-31T23:59:59.999999-23:59", 253_402_387_139.999999),
    ],
)
def test_known_instants(text: str, seconds: float) -> None:
    """Each form that is taken gives its instant; without an offset it is UTC."""
    assert epoch_seconds(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024",
        "20240229",
        "2024-W09-4",
        "2024-02-30",
        "2023-02-29",
        "2024-13-01",
        "0000-01-01",
        "2024-02-29T24:00",
        "2024-02-29T12:60",
        "2024-02-29T12:30:60",
        "2024-02-29T12:30:00+24:00",
        "2024-02-29T12",
        "2024-02-29Z",
        " 2024-02-29",
        "2024-02-29\n",
        "٢٠٢٤-02-29",
        "1e9",
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    """A text that is no date, no day of the calendar or no time of day is a ValueError."""
    with pytest.raises(ValueError, match=r"."):
        epoch_seconds(text)


@given(st.datetimes(), st.integers(-23 * 60, 23 * 60))
def test_agrees_with_the_standard_library(when: datetime, offset_min: int) -> None:
    """Every date and offset that Python can write reads to the very float64 that exact division gives."""
    zoned = when.replace(tzinfo=timezone(timedelta(minutes=offset_min)))
    naive_microseconds = (when.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert epoch_seconds(zoned.isoformat()) == (naive_microseconds - offset_min * 60_000_000) / 1_000_000


@pytest.mark.parametrize(
    "text, is_one",
    [("29.02.2024", True), ("2/29/24", True), ("29-2-2024 12:30", True), ("2024-02-29", False), ("1.2.3", False),
     ("10.0.0.2024", False), ("12.5", False)],
)  # fmt: skip
def test_dates_of_other_forms_are_seen(text: str, *, is_one: bool) -> None:
    """A date that ends in its year is told from other texts, and its refusal says how to write it."""
    assert ends_in_year(text) is is_one
    if is_one:
        with pytest.raises(ValueError, match=r"write 2024-02-29 for 29\.02\.2024"):
            epoch_seconds(text)


@pytest.mark.parametrize(
    "text, begins",
    [
        ("12/31/2024", True),
        ("12/31/2024 23:59", True),
        ("12/31/2024 or later", True),
        ("1/1/2024", True),
        ("2024-12-31", False),
        ("on 12/31/2024", False),
        ("", False),
    ],
)
def test_texts_that_begin_with_a_date(text: str, *, begins: bool) -> None:
    """What follows the date does not matter, what stands before it does."""
    assert begins_with(text, "%m/%d/%Y") is begins


def test_an_unknown_directive_is_refused_before_a_text_is_read() -> None:
    """A format is judged as a whole, whatever the text is."""
    with pytest.raises(DateFormatError, match="%Q"):
        begins_with("2024", "%Y%Q")
