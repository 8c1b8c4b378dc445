"""Whole columns to arrays, with the very codes and numbers that rows get one by one: for tables and for training."""

import datetime as dt
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from batchproof.service.bundle.signature import Feature, Signature
from batchproof.service.errors import FeatureError
from batchproof.service.features.arrays import Arrays, split
from batchproof.service.features.row_encoder import value_of
from batchproof.service.features.value_encoder import BITS, InvalidValueError, missing_numbers

DIGITS = b"0123456789+-.eE,"  # of JSON's numbers, and what separates them
MAX_EXACT = 1 << 53  # every integer up to here is a float64


def encode_columns(signature: Signature, columns: Mapping[str, Sequence[Any] | np.ndarray]) -> Arrays:
    """Encode columns {feature: values}; None, NaN and NaT are missing. Names not in the signature are ignored.

    Raises FeatureError at the first column or value that the signature does not accept.
    """
    encoded = []
    for feature in signature.inputs:
        if feature.name not in columns:
            raise FeatureError(f"the column {feature.name!r} is missing")
        encoded.append(encode_column(feature, columns[feature.name]))
    lengths = sorted({len(column) for column in encoded})
    if len(lengths) != 1:
        raise FeatureError(f"the columns differ in length: {lengths}")
    return split(signature, np.stack(encoded, axis=1))


def encode_column(feature: Feature, values: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Encode one column to numbers, epoch seconds or category codes, [rows] float64. Raises FeatureError."""
    if isinstance(values, np.ndarray):
        if feature.kind == "numeric" and values.dtype.kind in "fiu":
            return _checked(feature, _without_marks(feature, values.astype(np.float64, copy=False)))
        if feature.kind == "date" and values.dtype.kind == "M":
            return _checked(feature, _without_marks(feature, _seconds(values)))
        return _one_by_one(feature, values.tolist())
    return _one_by_one(feature, list(values))


def encode_cells(feature: Feature, take: Callable[[str], Any], cells: Sequence[str]) -> np.ndarray:
    """Encode one column of a text table, [rows] float64; `take` is the feature's reader. Raises FeatureError."""
    if reads_numbers(feature):
        numbers = _json_numbers(cells, takes_missing=feature.missing)
        if numbers is None:
            numbers = _plain_numbers(cells)
        if numbers is not None:
            return numbers
    # Many cells are equal: each distinct one is read once.
    distinct = list(dict.fromkeys(cells))
    encoded = dict(zip(distinct, encode_column(feature, [take(cell) for cell in distinct]).tolist(), strict=True))
    return np.fromiter(map(encoded.__getitem__, cells), np.float64, len(cells))


def encode_lines(lines: Sequence[str], width: int) -> np.ndarray | None:
    """Encode rows of `width` cells with commas between, [rows, width] float64, with the bits that `encode_cells` gives.

    None where one has another number of cells, or a cell that is no finite number in JSON's digits.
    """
    text = "],[".join(lines)
    if not text.isascii() or text.count("[") >= len(lines) or text.encode().translate(None, DIGITS + b"[]"):
        return None
    try:
        numbers = np.array(orjson.loads(f"[[{text}]]"), np.float64)
    except ValueError:
        return None
    is_right = numbers.shape == (len(lines), width)
    return None if not is_right or ("-0" in text and not numbers.all()) else numbers  # to orjson, -0 is the integer 0


def reads_numbers(feature: Feature) -> bool:
    """Return whether the usual numbers are all that cells of the feature hold, besides missing values."""
    return feature.kind == "numeric" and feature.value_type != "boolean" and feature.text_rule is None


def _plain_numbers(cells: Sequence[str]) -> np.ndarray | None:
    """Return finite numbers in decimal digits, [rows] float64, or None where a cell needs the precise reading."""
    try:
        numbers = np.fromiter(map(float, cells), np.float64, len(cells))
    except ValueError:  # a missing value, a hexadecimal number, or no number
        return None
    text = "".join(cells)  # float() reads more than the specification does: 1_000, and digits of other scripts
    return numbers if np.isfinite(numbers).all() and "_" not in text and text.isascii() else None


def _json_numbers(cells: Sequence[str], *, takes_missing: bool) -> np.ndarray | None:
    """Return finite numbers in JSON's digits, [rows] float64, NaN for an empty cell, or None where another cell is there.

    A JSON parser reads them in a third of the time that `float` takes, with the same bits.
    """
    text = ",".join(cells)
    if not text.isascii() or text.encode().translate(None, DIGITS):
        return None
    array = f"[{text}]"
    if takes_missing:  # two commas in a row share one: the second round finds what the first one has passed
        array = array.replace("[,", "[null,").replace(",,", ",null,").replace(",,", ",null,").replace(",]", ",null]")
    try:
        numbers = np.array(orjson.loads(array), np.float64)
    except ValueError:
        return None
    if len(numbers) != len(cells):  # a comma within a cell
        return None
    return None if "-0" in text and not numbers.all() else numbers  # to orjson, -0 is the integer 0


def _without_marks(feature: Feature, numbers: np.ndarray) -> np.ndarray:
    """Return the numbers, with NaN for those that mean a missing value."""
    marks = missing_numbers(feature.text_rule, feature.kind) if feature.text_rule else ()
    return np.where(np.isin(numbers, list(marks)), np.nan, numbers) if marks else numbers


def _one_by_one(feature: Feature, values: Sequence[Any]) -> np.ndarray:
    codes = feature.codes
    known: dict[Any, float] = {}  # texts repeat themselves
    encoded = np.empty(len(values), dtype=np.float64)
    for row, value in enumerate(values):
        number = known.get(value) if type(value) is str else None
        if number is None:
            number = _encode(feature, codes, row, value)
            if type(value) is str:
                known[value] = number
        encoded[row] = number
    return encoded


def _encode(feature: Feature, codes: dict[str, int], row: int, value: Any) -> float:
    try:
        return value_of(feature, codes, json_value(value))
    except InvalidValueError as error:
        raise FeatureError(f"row {row}, feature {feature.name!r}: {error}") from error


def json_value(value: Any) -> Any:
    """Return what the value would be in a request: NaN is null, a date is its ISO 8601 text."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, dt.date):
        return value.isoformat()
    return None if isinstance(value, float) and math.isnan(value) else value


def _seconds(values: np.ndarray) -> np.ndarray:
    """Return datetime64 as seconds, cut to the microsecond as texts are: one correctly rounded division."""
    microseconds = values.astype("datetime64[us]").astype(np.int64)
    known = microseconds[~np.isnat(values)]
    if (np.abs(known) <= MAX_EXACT).all():  # float64 holds them exactly
        seconds = microseconds / 1_000_000
    else:  # Python divides integers of any size and rounds once
        seconds = np.array([ticks / 1_000_000 for ticks in microseconds.tolist()], dtype=np.float64)
    return np.where(np.isnat(values), np.nan, seconds)


def _checked(feature: Feature, numbers: np.ndarray) -> np.ndarray:
    """Return numbers [rows] that the feature accepts; raises FeatureError for the first that it does not."""
    if feature.value_type == "boolean":
        bad = ~(np.isin(numbers, BITS) | (np.isnan(numbers) & feature.missing))
    elif np.isfinite(numbers).all():
        return numbers
    else:
        bad = np.isinf(numbers) | (np.isnan(numbers) & (not feature.missing))
    if bad.any():
        row = int(np.argmax(bad))
        _encode(feature, {}, row, numbers[row])  # raises: it says what is wrong with one value
    return numbers
