"""Arrow columns to typed values: kinds inferred, kinds asked for, and what cannot be read so."""

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from batchproof.service.features.dates import epoch_seconds
from batchproof.training.data.columns import Column, typed
from batchproof.training.data.table import TableError


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
        ([None, None], None, "column 'c' has no value in any row: leave it out with --drop 'c'."),
        ([float("nan")], None, "column 'c' has no finite value in any row: leave it out with --drop 'c'."),
        ([1.5], "categorical", "column 'c' holds fractions: they cannot be read as categories."),
        ([date(2024, 1, 1)], "categorical", "column 'c' holds date32.day. values: they cannot be read as categories."),
        (["1", "one"], "numeric", "column 'c' holds 'one', which is no finite number, but --numeric asks so."),
        ([1, 2], "date", "column 'c' holds numbers, not ISO 8601 dates: do not name it in --date."),
        (["2024-02-30"], "date", "column 'c' holds '2024-02-30', which is no ISO 8601 date: "),
    ],
)
def test_refusals(values: list[Any], wanted: Any, sentence: str) -> None:
    """A column that cannot be read, or not as asked, is refused by name."""
    with pytest.raises(TableError, match=sentence):
        column(values, wanted)


def test_decimal_commas_are_no_categories() -> None:
    """Numbers with decimal commas are refused with what to do, not taken for text; who wants the text says so."""
    with pytest.raises(TableError, match=r"column 'c' holds numbers with commas, such as '3,14': write 3\.14"):
        column(["2", "3,14", None])
    with pytest.raises(TableError, match=r"'3,14', which is no finite number, but --numeric asks so: write 3\.14"):
        column(["3,14"], "numeric")

    assert column(["2", "3,14", None], "categorical").levels == ("2", "3,14")
    assert column(["a", "3,14"]).kind == "categorical"


def test_a_few_strays_among_numbers_are_noted() -> None:
    """A column that a few values keep from being numbers is text, and its owner is told which value to mend."""
    noted = column([*map(str, range(29)), "12 EUR", "13", None])
    assert (noted.kind, noted.levels[29]) == ("categorical", "12 EUR")
    assert noted.note.startswith(
        "all but 1 of 30 distinct values are numbers: with a number, or nothing, in place of '12 EUR'"
    )
    assert not column([*map(str, range(8)), "12 EUR"]).note


def test_dates_of_other_forms_are_noted() -> None:
    """Dates that are not ISO 8601 stay text, and the line of their column says how to write them."""
    assert (
        column(["29.02.2024", "1.3.2024"]).note == "dates read as text: write 2024-02-29 for 29.02.2024 and 2/29/2024"
    )
    assert column(["29.02.2024", "soon"]).note == ""
