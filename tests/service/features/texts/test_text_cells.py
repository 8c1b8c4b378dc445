"""Cells of text tables: what they stand for, feature by feature."""

from typing import Any

import pytest

from batchproof.service.bundle.signature import Feature
from batchproof.service.features.texts.text_cells import MISSING, has_comma, reader_of


def feature(kind: str, value_type: str, **more: Any) -> Feature:
    """Return a feature of this kind."""
    return Feature.model_validate({"name": "x", "kind": kind, "value_type": value_type, "missing": True, **more})


NUMBER = feature("numeric", "float")
BOOLEAN = feature("numeric", "boolean")
WHOLE = feature("categorical", "integer", categories=["1"])
TEXT = feature("categorical", "string", categories=["a"])
WITH_EMPTY = feature("categorical", "string", categories=["", "a"])
WITH_NA = feature("categorical", "string", categories=["NA", "a"])
TRUTH = feature("categorical", "boolean", categories=["true"])
DATE = feature("date", "date")


@pytest.mark.parametrize(
    "one, cell, value",
    [
        (NUMBER, "1.5", 1.5),
        (NUMBER, " -2e3 ", -2000.0),
        (NUMBER, "", None),
        (NUMBER, "  ", None),
        (NUMBER, "1_000", "1_000"),
        (NUMBER, "\uff11", "\uff11"),
        (NUMBER, "1,5", "1,5"),
        (NUMBER, " NA ", None),
        (NUMBER, "-NAN", None),
        (NUMBER, "none at all", "none at all"),
        (BOOLEAN, "True", True),
        (BOOLEAN, "0", False),
        (BOOLEAN, "", None),
        (BOOLEAN, "yes", "yes"),
        (BOOLEAN, "1.0", 1.0),
        (BOOLEAN, " 0.0", 0.0),
        (BOOLEAN, "7", 7.0),
        (TRUTH, "1.0", 1.0),
        (WHOLE, "3", 3),
        (WHOLE, "3.0", 3),
        (WHOLE, "-3", -3),
        (WHOLE, "9007199254740993", 9007199254740993),
        (WHOLE, "3.5", 3.5),
        (WHOLE, "", None),
        (WHOLE, "three", "three"),
        (WHOLE, "9" * 5000, float("inf")),
        (TEXT, "a", "a"),
        (TEXT, " a", " a"),
        (TEXT, "", None),
        (WITH_EMPTY, "", ""),
        (WITH_NA, "NA", "NA"),
        (WITH_NA, "null", None),
        (TEXT, "na", "na"),
        (TRUTH, "TRUE", True),
        (DATE, "2020-02-29", "2020-02-29"),
        (DATE, "", None),
    ],
)
def test_cells(one: Feature, cell: str, value: Any) -> None:
    """A cell is the JSON value that the feature's type makes of it; what it cannot be stays text, to be refused."""
    found = reader_of(one)(cell)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("cell", sorted(MISSING))
@pytest.mark.parametrize(
    "one", [NUMBER, BOOLEAN, WHOLE, TEXT, TRUTH, DATE], ids=lambda one: f"{one.kind} {one.value_type}"
)
def test_missing_cells(one: Feature, cell: str) -> None:
    """Every spelling of a missing value is null for every type of feature."""
    assert reader_of(one)(cell) is None


@pytest.mark.parametrize(
    "text, is_one",
    [
        ("3,14", True),
        ("-1.234,5", True),
        ("1,234.5", True),
        (" ,5 ", True),
        ("2,5e-3", True),
        ("3.14", False),
        ("1,", False),
        ("1, 2", False),
        ("a,1", False),
        ("", False),
    ],
)
def test_numbers_with_commas_are_seen(text: str, *, is_one: bool) -> None:
    """A number of another country, with a comma of decimals or thousands, is told from other texts."""
    assert has_comma(text) is is_one
