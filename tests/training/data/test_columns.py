"""Arrow columns to typed values: kinds inferred, kinds asked for, and what cannot be read so."""

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from batchproof.service.features.texts.dates import epoch_seconds
from batchproof.training.data.column import Column
from batchproof.training.data.columns import check_range, mark_warning, typed
from batchproof.training.data.tables.table_error import TableError
from batchproof.training.data.text import date_rules


def column(values: list[Any], wanted: Any = None, kind: pa.DataType | None = None) -> Column:
    """Return the typed column of `values`."""
    found = typed("c", pa.chunked_array([pa.array(values, kind)]), wanted)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "values, kind, value_type",
    [
        ([1, None, 3], "numeric", "integer"),
        ([1.5, None], "numeric", "float"),
        ([Decimal("1.50"), None], "numeric", "float"),
        ([True, False, None], "numeric", "boolean"),
        (["a", None, "b"], "categorical", "string"),
        (["2024-02-29", "2024-03-01T12:00:00Z"], "date", "date"),
        ([date(2024, 2, 29), None], "date", "date"),
        ([datetime(2024, 2, 29, tzinfo=UTC), None], "date", "date"),
        ([time(12, 30)], "categorical", "string"),
    ],
)
def test_inferred(values: list[Any], kind: str, value_type: str) -> None:
    """Numbers and booleans are numeric, text is categorical unless all of it is dates."""
    found = column(values)
    assert (found.kind, found.value_type) == (kind, value_type)
    assert found.is_missing.tolist() == [value is None for value in values]


def test_dates_are_what_the_service_makes_of_them() -> None:
    """A timestamp column and the same instants as text are the same seconds, before 1970 too."""
    texts = ["1969-12-31T23:59:59.250000Z", "2024-02-29T12:30:00Z", "1900-01-01"]
    instants = [datetime.fromisoformat(text).replace(tzinfo=UTC) for text in texts]
    for unit in ("us", "ns"):
        found = column(instants, kind=pa.timestamp(unit, "UTC"))
        assert found.values.tolist() == [epoch_seconds(text) for text in texts]
    assert column(texts).values.tolist() == [epoch_seconds(text) for text in texts]


def test_infinite_values() -> None:
    """Infinite values are missing, because the service takes none, and the note says how many."""
    found = column([1.0, float("inf"), float("nan")])
    assert found.is_missing.tolist() == [False, True, True]
    assert found.note == "1 infinite values read as missing"


def test_asked_for() -> None:
    """Whole numbers and booleans become categories, and text numbers, where that is asked for."""
    assert column([3, 1, 3, None], "categorical").levels == (3, 1)
    assert column([3.0, None], "categorical").value_type == "integer"
    assert column([True, False], "categorical").levels == (True, False)
    np.testing.assert_array_equal(column(["1.5", None, "-2"], "numeric").values, [1.5, np.nan, -2])


def test_dictionaries() -> None:
    """A dictionary-encoded column is read as its values."""
    found = typed("c", pa.chunked_array([pa.array(["a", None, "a"]).dictionary_encode()]))
    assert found is not None
    assert (found.levels, found.values.tolist()) == (("a",), [0, -1, 0])


def test_no_table_value() -> None:
    """A column of lists is no table value."""
    assert typed("c", pa.chunked_array([pa.array([[1], [2]])])) is None


@pytest.mark.parametrize(
    "values, wanted, sentence",
    [
        ([None, None], None, "column 'c' has no value in any row: leave it out with --drop c."),
        ([float("nan")], None, "column 'c' has no finite value in any row: leave it out with --drop c."),
        ([1.5], "categorical", "column 'c' holds fractions: they cannot be read as categories."),
        ([date(2024, 1, 1)], "categorical", "column 'c' holds date32.day. values: they cannot be read as categories."),
        (["1", "one"], "numeric", "column 'c' holds 'one', which is not a finite number, but --numeric asks for one: "),
        ([1, 2], "date", "column 'c' holds numbers, not ISO 8601 dates: do not name it in --date."),
        (["2024-02-30"], "date", "column 'c' holds '2024-02-30', which is not an ISO 8601 date: "),
    ],
)
def test_refusals(values: list[Any], wanted: Any, sentence: str) -> None:
    """A column that cannot be read, or not as asked, is refused by name."""
    with pytest.raises(TableError, match=sentence):
        column(values, wanted)


def test_decimal_commas_are_no_categories() -> None:
    """Numbers with commas in a typed table are refused with what to do; who wants the text, or the numbers, says so."""
    with pytest.raises(TableError, match=r"column 'c' holds numbers with commas, such as '3,14': write 3\.14"):
        column(["2", "3,14", None])

    np.testing.assert_array_equal(column(["3,14", "2"], "numeric").values, [3.14, 2])
    assert column(["2", "3,14", None], "categorical").levels == ("2", "3,14")
    assert column(["a", "3,14"]).kind == "categorical"


def test_a_few_strays_among_numbers_are_named() -> None:
    """A column that a few values keep from being numbers is text, and its owner learns which flag mends it."""
    stray = column([*map(str, range(29)), "12 EUR", "13", None])
    assert (stray.kind, stray.levels[29]) == ("categorical", "12 EUR")
    (warning,) = stray.warnings
    assert warning.startswith("96.8% of its values are numbers; '12 EUR' is not, so that the column is read as text")
    assert "--missing '12 EUR'" in warning
    assert not column([*map(str, range(8)), "12 EUR", "EUR", "a"]).warnings


def test_dates_of_other_forms_are_read() -> None:
    """Dates that are not ISO 8601 are read where one format fits all of them, and named where two do."""
    found = column(["29.02.2024", "1.3.2024"])
    assert found.kind == "date"
    assert found.rule is not None
    assert found.rule.date_format == "%d.%m.%Y"
    assert found.values.tolist() == [epoch_seconds("2024-02-29"), epoch_seconds("2024-03-01")]
    assert column(["29.02.2024", "soon"]).kind == "categorical"
    unsure = column(["1/2/2024", "3/4/2024"])
    assert unsure.kind == "categorical"
    assert "'%m/%d/%Y' or as '%d/%m/%Y'" in unsure.warnings[0]


@pytest.mark.parametrize("kind", [pa.decimal128(20, 6), pa.decimal256(50, 6)])
def test_decimals_are_the_nearest_floats(kind: pa.DataType) -> None:
    """A decimal is the float that its digits are as JSON, bit for bit, whatever Arrow's own cast makes of them."""
    digits = [f"{number * 7919 % 10**9}.{number:06}" for number in range(400)]
    found = column([Decimal(text) for text in digits], kind=kind)
    assert found.values.tolist() == [float(text) for text in digits]


def test_marks_of_missing_values_are_named() -> None:
    """A number far from all others that is repeated may stand for nothing: its owner learns the flag."""
    marked = column([*range(40), -999, -999])
    assert (mark_warning(marked) or "").endswith("--missing c=-999 reads it so")
    assert mark_warning(column([*range(40)])) is None
    assert mark_warning(column([-1, 0, 1, 1, -1])) is None


def test_far_dates_are_refused() -> None:
    """A date in a year that no ISO 8601 text has could not be scored as JSON: training refuses it by its column."""
    far = column([400 * 10**15], kind=pa.timestamp("us"))
    with pytest.raises(TableError, match=r"column 'c' holds a date outside of the years 1 to 9999, in 1 rows"):
        check_range(far)
    with pytest.raises(TableError, match="column 'c' cannot be read: A column of timestamp"):
        column([1 << 62], kind=pa.timestamp("s"))


def test_numbers_beyond_float64_are_named() -> None:
    """Whole numbers that a float64 cannot tell apart are read as the nearest one, and their owner is warned."""
    found = column([(1 << 53) + 1, 3])
    assert found.warnings[0].startswith("it holds whole numbers beyond 2^53")


@pytest.mark.parametrize("day", ["", *date_rules.DAYS])
def test_every_date_format_reads_the_texts_that_it_writes(day: str) -> None:
    """A format is found among those that read its own texts, whatever clock is behind the day."""
    zone = timezone(timedelta(hours=1))
    moments = [datetime(1985 + 5 * n, n + 1, 3 * n + 1, 2 * n + 1, 5 * n, 7 * n, 1000 * n, zone) for n in range(9)]
    formats = [day + clock for clock in date_rules.CLOCKS] if day else [*date_rules.MONTHS, *date_rules.WHOLE]
    for date_format in formats:
        texts = [moment.strftime(date_format) for moment in moments]
        assert date_format in dict(date_rules.fitting_formats(texts, 1.0))
