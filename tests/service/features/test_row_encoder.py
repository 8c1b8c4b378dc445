"""Rows to arrays: order, types, codes, missing values, and the words of every refusal."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchproof.service.bundle.signature import Feature, Signature
from batchproof.service.errors import FeatureError
from batchproof.service.features.columns import encode_column, encode_columns
from batchproof.service.features.row_encoder import Encoder, Problem
from batchproof.service.features.value_encoder import WANTED, category_text
from tests.bundles import INPUTS, random_rows, signature_of

ENCODER = Encoder(signature_of())
GOOD = {
    "length_mm": 41.5,
    "island": "Ærø",
    "count": 3,
    "seen": "2024-02-29T12:30:00Z",
    "adult": True,
    "grade": 2,
    "owned": None,
}


def feature_of(**fields: Any) -> Feature:
    content = {"name": "x", "kind": "numeric", "value_type": "float", "missing": True, **fields}
    return Feature.model_validate(content)


def problems(row: Any, columns: list[Any] | None = None) -> list[Problem]:
    encoded = ENCODER.encode_rows([GOOD if columns is None else list(GOOD.values()), row], columns)
    assert encoded.kept == [0]
    return encoded.errors


def test_named_row_becomes_arrays() -> None:
    """Numbers and dates go to float64 columns, categories to int64 codes, each in signature order."""
    arrays, kept, errors, truncated = ENCODER.encode_rows([GOOD])
    assert arrays.numeric is not None
    assert arrays.categorical is not None
    assert arrays.numeric.dtype == np.float64
    assert arrays.categorical.dtype == np.int64
    np.testing.assert_array_equal(arrays.numeric, [[41.5, 3.0, 1709209800.0, 1.0]])
    np.testing.assert_array_equal(arrays.categorical, [[1, 1, 2]])
    assert (kept, errors, truncated) == ([0], [], False)


def test_order_of_keys_and_columns_does_not_matter() -> None:
    """An object in any order, a list in signature order, and a list with its columns named are the same row."""
    reordered = dict(reversed(GOOD.items()))
    for rows, columns in (
        ([reordered], None),
        ([list(GOOD.values())], None),
        ([list(reordered.values())], list(reordered)),
    ):
        encoded = ENCODER.encode_rows(rows, columns)
        assert encoded.errors == []
        for found, wanted in zip(encoded.arrays, ENCODER.encode_rows([GOOD]).arrays, strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_missing_and_unseen_have_places_of_their_own() -> None:
    """Null is NaN or the code after the categories; a category not listed has the code after that."""
    arrays = ENCODER.encode_rows([{**GOOD, "length_mm": None, "island": None, "grade": 99}]).arrays
    assert arrays.numeric is not None
    assert arrays.categorical is not None
    assert math.isnan(arrays.numeric[0, 0])
    assert arrays.categorical[0].tolist() == [2, 4, 2]


def test_signature_without_a_kind_has_no_array_of_it() -> None:
    """A model of numbers alone has no categorical matrix, and the other way round."""
    inputs = [feature.model_dump() for feature in signature_of().inputs]
    assert Encoder(signature_of(inputs=inputs[:1])).encode_rows([[1.0]]).arrays.categorical is None
    assert Encoder(signature_of(inputs=inputs[1:2])).encode_rows([["Oslo"]]).arrays.numeric is None


def test_no_rows_keep_the_width() -> None:
    """No row at all still gives matrices of the right width."""
    arrays = ENCODER.encode_rows([]).arrays
    assert [array.shape for array in arrays if array is not None] == [(0, 4), (0, 3)]


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("length_mm", "41", "expected a number, got a string"),
        ("length_mm", "3,14", "expected a number, got a number with a comma: write 3.14 for 3,14, 1234 for 1,234"),
        ("length_mm", "3, 14", "expected a number, got a string"),
        ("length_mm", True, "expected a number, got a boolean"),
        ("length_mm", [1], "expected a number, got a list"),
        ("length_mm", math.nan, "expected a finite number within float64"),
        ("length_mm", math.inf, "expected a finite number within float64"),
        ("length_mm", "inf", "expected a finite number within float64"),
        ("length_mm", 10**400, "expected a finite number within float64"),
        ("count", None, "expected a number: null is not allowed, because the feature was never missing in training"),
        ("adult", "yes", "expected true, false, 1 or 0, got a string"),
        ("island", 3, "expected a string, got a number"),
        ("grade", "1", "expected a whole number, got a string"),
        ("grade", 1.5, "expected a whole number: the numbers are categories"),
        ("grade", True, "expected a whole number, got a boolean"),
        ("grade", math.inf, "expected a whole number: the numbers are categories"),
        ("adult", 7, "expected true, false, 1 or 0, got the number 7"),
        ("adult", 0.5, "expected true, false, 1 or 0, got the number 0.5"),
        ("owned", 2, "expected true, false, 1 or 0, got a number"),
        ("owned", "true", "expected true, false, 1 or 0, got a string"),
        (
            "seen",
            12,
            "expected an ISO 8601 date such as 2024-02-29 or 2024-02-29T12:30:00Z, got a number",
        ),
        (
            "seen",
            "29.2.2024",
            f"expected {WANTED['date']}: it is not in that form, write 2024-02-29 for 29.02.2024 and 2/29/2024",
        ),
    ],
)
def test_wrong_value_is_refused_with_what_would_be_right(name: str, value: Any, message: str) -> None:
    """A value of the wrong kind names its row, its feature, and what the feature takes."""
    assert problems({**GOOD, name: value}) == [Problem(1, name, message)]


@pytest.mark.parametrize(
    "name, value, number", [("length_mm", 2**53 + 1, 2.0**53), ("adult", 1.0, 1.0), ("count", 1e3, 1000.0)]
)
def test_numbers_are_float64(name: str, value: Any, number: float) -> None:
    """Whole numbers beyond float64's exactness round, booleans are 0 and 1, and ranges refuse nothing."""
    feature = next(feature for feature in ENCODER.signature.inputs if feature.name == name)
    assert encode_column(feature, [value]).tolist() == [number]


def test_unknown_feature_gets_the_nearest_name() -> None:
    """A misspelt feature is answered with the name that was meant; the right one is reported missing."""
    row = {**GOOD, "lenght_mm": 1}
    del row["length_mm"]
    assert problems(row) == [
        Problem(1, "lenght_mm", "unknown feature; did you mean 'length_mm'?"),
        Problem(1, "length_mm", "the feature is not in the row; send null if it is not known"),
    ]


def test_columns_of_the_training_table_are_ignored() -> None:
    """The target and what training left out may be in a row; whatever else is no feature is a fault, and so is a name twice."""
    encoder = Encoder(signature_of().model_copy(update={"target": "species", "ignored": ("id", "")}))
    row = {"id": 7, **GOOD, "species": [1], "": None}
    wanted = encoder.encode_rows([GOOD]).arrays
    for encoded in (
        encoder.encode_rows([row]),
        encoder.encode_rows([list(row.values())], list(row)),
        encoder.encode_rows([list(row.values())[::-1]], list(row)[::-1]),
    ):
        assert encoded.errors == []
        for array, right in zip(encoded.arrays, wanted, strict=True):
            np.testing.assert_array_equal(array, right)
    (short,) = encoder.encode_rows([list(GOOD.values())], list(row)).errors
    assert short.message == "the row has 7 values, but there are 10 columns"
    assert encoder.encode_rows([{**row, "zzz": 1}]).errors == [Problem(0, "zzz", "unknown feature")]
    assert encoder.encode_rows([], [*row, "id"]).errors == [
        Problem(None, "id", "columns must name it once, not 2 times")
    ]


def test_feature_that_was_never_missing_must_be_sent() -> None:
    """Leaving out a feature that training always had is refused in other words."""
    row = {name: value for name, value in GOOD.items() if name != "count"}
    assert problems(row) == [Problem(1, "count", "the feature is not in the row; it was never missing in training")]


@pytest.mark.parametrize("row", [7, "x", None])
def test_row_that_is_none_is_refused(row: Any) -> None:
    """A row is an object or a list."""
    assert problems(row) == [Problem(1, None, "a row is an object {feature: value} or a list")]


def test_row_of_another_length_is_refused() -> None:
    """A list has as many values as there are features."""
    assert problems([1, 2]) == [Problem(1, None, "the row has 2 values, but there are 7 features")]


def test_object_beside_columns_is_refused() -> None:
    """With columns named, rows are lists."""
    assert problems(GOOD, list(GOOD)) == [Problem(1, None, "a row is a list of values in the order of columns")]


@pytest.mark.parametrize(
    "columns, problem",
    [
        ([*GOOD, "island"], Problem(None, "island", "columns must name it once, not 2 times")),
        ([*list(GOOD)[1:]], Problem(None, "length_mm", "it is missing from columns")),
        (list(GOOD)[2:], Problem(None, "length_mm", "it is missing from columns, as is 'island'")),
        (list(GOOD)[3:], Problem(None, "length_mm", "it is missing from columns, as are 'island', 'count'")),
        ([*list(GOOD)[1:], "length"], Problem(None, "length", "unknown feature; did you mean 'length_mm'?")),
        ([*list(GOOD)[1:], 5], Problem(None, "5", "unknown feature")),
    ],
)
def test_wrong_columns_are_refused(columns: list[Any], problem: Problem) -> None:
    """Columns name every feature once, and no other."""
    encoded = ENCODER.encode_rows([list(GOOD.values())], columns)
    assert (encoded.errors, encoded.kept) == ([problem], [])


def test_many_missing_columns_are_counted() -> None:
    """A sentence names so many missing features as can be read, and says how many more there are."""
    inputs = [{**INPUTS[0], "name": f"f{place}"} for place in range(30)]
    ((row, feature, message),) = Encoder(signature_of(inputs=inputs)).encode_rows([[1]], ["f29"]).errors
    assert (row, feature) == (None, "f0")
    assert message.endswith("as are 'f1', 'f2', 'f3', 'f4', 'f5', 'f6', 'f7', 'f8', 'f9', 'f10' and 18 more")


def test_every_problem_is_found_up_to_the_limit() -> None:
    """All bad rows and features are listed; at the limit looking stops and says so."""
    rows = [{**GOOD, "count": "x", "adult": "y"}, GOOD, {**GOOD, "grade": "z"}]
    encoded = ENCODER.encode_rows(rows)
    assert [(error.row, error.feature) for error in encoded.errors] == [(0, "count"), (0, "adult"), (2, "grade")]
    assert (encoded.kept, encoded.truncated) == ([1], False)
    cut = ENCODER.encode_rows(rows, limit=1)
    assert ([error.feature for error in cut.errors], cut.truncated) == (["count"], True)
    assert len(ENCODER.encode_rows([7] * 100, limit=None).errors) == 100


def test_rows_at_the_limit_are_not_called_truncated() -> None:
    """Just as many problems as the limit, with nothing after them, are all of them."""
    encoded = ENCODER.encode_rows([GOOD, 7], limit=1)
    assert (len(encoded.errors), encoded.truncated) == (1, False)


@pytest.mark.parametrize("value, text", [(3, "3"), (3.0, "3"), (-0.0, "0"), (-3, "-3"), (10**20, "1" + "0" * 20)])
def test_whole_numbers_are_one_category_however_written(value: Any, text: str) -> None:
    """3 and 3.0 are the same JSON number, and the same category."""
    assert category_text(feature_of(kind="categorical", value_type="integer", categories=[]), value) == text


values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.lists(st.integers())


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(*[values] * 7), max_size=4) | st.integers(0, 9).map(lambda n: random_rows(signature_of(), n, n))
)
def test_columns_and_rows_give_the_same_arrays(rows: list[Any]) -> None:
    """Whatever the values are, a table of them is encoded as its rows are, or both refuse it."""
    signature = signature_of()
    encoded = ENCODER.encode_rows([list(row) for row in rows])
    columns = {feature.name: [row[place] for row in rows] for place, feature in enumerate(signature.inputs)}
    if encoded.errors:
        with pytest.raises(FeatureError):
            encode_columns(signature, columns)
        return
    for found, wanted in zip(encode_columns(signature, columns), encoded.arrays, strict=True):
        np.testing.assert_array_equal(found, wanted)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["Oslo", "Ærø", "", "oslo", None]), max_size=8))
def test_codes_read_back(categories: list[str | None]) -> None:
    """A code is the place of the category in the signature: reading it back gives the category or says unseen."""
    feature = signature_of().inputs[1]
    listed = feature.categories or ()
    back = {**dict(enumerate(listed)), len(listed): None, len(listed) + 1: "unseen"}
    codes = encode_column(feature, categories).astype(int)
    assert [back[code] for code in codes] == [c if c is None or c in listed else "unseen" for c in categories]


@pytest.mark.parametrize(
    "fields, values, wanted",
    [
        ({}, np.array([1.5, np.nan], np.float32), [1.5, math.nan]),
        ({}, np.array([1, 2], np.int16), [1.0, 2.0]),
        ({"value_type": "boolean"}, np.array([True, False]), [1.0, 0.0]),
        ({}, [np.float64(2.5), np.int64(3), None, math.nan], [2.5, 3.0, math.nan, math.nan]),
        (
            {"kind": "date", "value_type": "date"},
            np.array(["1970-01-01T00:00:01.5", "NaT", "1969-12-31T23:59:59.999999999"], "datetime64[ns]"),
            [1.5, math.nan, -1e-6],
        ),
        (
            {"kind": "date", "value_type": "date"},
            [np.datetime64("1970-01-02"), np.datetime64("1970-01-01T00:00:02"), "1970-01-01", None],
            [86400.0, 2.0, 0.0, math.nan],
        ),
        (
            {"kind": "categorical", "value_type": "integer", "categories": ["1"]},
            np.array([1.0, np.nan, 2.0]),
            [0.0, 1.0, 2.0],
        ),
    ],
)
def test_typed_columns_are_taken(fields: dict[str, Any], values: Any, wanted: list[float]) -> None:
    """Arrays of the types that tables have are encoded as the JSON values they stand for."""
    np.testing.assert_array_equal(encode_column(feature_of(**fields), values), wanted)


@pytest.mark.parametrize(
    "columns, message",
    [
        ({}, "the column 'x' is missing"),
        ({"x": [1.0, "a"]}, "row 1, feature 'x': expected a number, got a string"),
        ({"x": np.array([1.0, np.inf])}, "row 1, feature 'x': expected a finite number within float64"),
        ({"x": np.array([1.0, 2.0, np.nan])}, "row 2, feature 'x': expected a number: null is not allowed"),
    ],
)
def test_wrong_column_is_refused(columns: dict[str, Any], message: str) -> None:
    """A missing column or the first bad value of one is named."""
    signature = Signature(inputs=(feature_of(missing=False),), target="y")
    with pytest.raises(FeatureError, match=message):
        encode_columns(signature, columns)


def test_columns_of_different_length_are_refused() -> None:
    """Columns of one table have one length."""
    signature = Signature(inputs=(feature_of(), feature_of(name="y")), target="z")
    with pytest.raises(FeatureError, match=r"the columns differ in length: \[1, 2\]"):
        encode_columns(signature, {"x": [1], "y": [1, 2]})


def test_names_beyond_the_limit_are_not_built() -> None:
    """A row with more unknown names than problems are listed ends with one more than the limit, whatever it holds."""
    crowded = {**GOOD, **{f"extra{number}": 1 for number in range(1000)}}
    encoded = ENCODER.encode_rows([crowded], limit=5)

    assert encoded.kept == []
    assert encoded.truncated
    assert 5 <= len(encoded.errors) <= 6
