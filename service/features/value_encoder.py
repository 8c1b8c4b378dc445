"""One JSON value to one number: the types that a feature accepts, missing values, categories as text."""

import math
import re
from collections.abc import Callable
from functools import cache
from typing import Any

from batchproof.service.bundle.signature import Feature, Kind, TextRule
from batchproof.service.features.texts.date_formats import date_parser
from batchproof.service.features.texts.dates import epoch_seconds
from batchproof.service.features.texts.number_texts import parse_number
from batchproof.service.features.texts.text_cells import has_comma, reader_of

WANTED = {
    "float": "a number",
    "integer": "a number",
    "boolean": "true, false, 1 or 0",
    "string": "a string",
    "date": "an ISO 8601 date such as 2024-02-29 or 2024-02-29T12:30:00Z",
}

DIGITS = re.compile(r"[+-]?[0-9]+")
INFINITE = ("inf", "-inf")  # as the client writes an infinite number, which JSON cannot express
BITS = (0.0, 1.0)  # false and true as numbers


class InvalidValueError(ValueError):
    """A value that the feature does not accept; the sentence says what it accepts."""


def number_of(feature: Feature, value: Any) -> float:
    """Return the float64 of a numeric or date feature: NaN where missing. Raises InvalidValueError."""
    if feature.text_rule is not None:
        value = _by_rule(feature, feature.text_rule, value)
    if value is None:
        _check_missing(feature)
        return math.nan
    if feature.kind == "date":
        return _seconds(feature, value)
    _check_number(feature, value)
    number = _float64(value)
    if not math.isfinite(number):
        raise InvalidValueError("expected a finite number within float64")
    if feature.value_type == "boolean" and number not in BITS:
        raise InvalidValueError(f"expected {WANTED['boolean']}, got the number {_digits(value)}")
    return number


def _digits(number: float) -> str:
    """Return at most 40 characters of a number, a whole one without a point: JSON has one type for 7 and 7.0."""
    return f"{number!r:.40}".removesuffix(".0")


def _check_number(feature: Feature, value: Any) -> None:
    """Raise InvalidValueError where a value of a numeric feature is not a number."""
    if isinstance(value, bool) and feature.value_type != "boolean":
        raise InvalidValueError(_wanted(feature, value))
    if isinstance(value, str) and has_comma(value):
        raise InvalidValueError(
            f"expected {_type(feature)}, got a number with a comma: write 3.14 for 3,14, 1234 for 1,234"
        )
    if value in INFINITE:
        raise InvalidValueError("expected a finite number within float64")
    if not isinstance(value, int | float):
        raise InvalidValueError(_wanted(feature, value))


def code_of(feature: Feature, codes: dict[str, int], value: Any) -> int:
    """Return the category code: its place in `codes`, or the feature's `missing_code` or `unseen_code`."""
    if feature.text_rule is not None:
        value = _by_rule(feature, feature.text_rule, value)
    if value is None:
        _check_missing(feature)
        return feature.missing_code
    return codes.get(category_text(feature, value), feature.unseen_code)


def category_text(feature: Feature, value: Any) -> str:
    """Return a category as the text that bundle.json lists it by: `a`, `3`, `true`. Raises InvalidValueError.

    A whole number may be written as 3 or 3.0, which are the same number in JSON.
    """
    if feature.value_type == "string" and isinstance(value, str):
        return value
    if feature.value_type == "boolean" and isinstance(value, bool | int | float) and value in BITS:
        return "true" if value else "false"
    if feature.value_type == "integer" and isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(value, int) or value.is_integer():
            return str(int(value))
        raise InvalidValueError("expected a whole number: the numbers are categories")
    raise InvalidValueError(_wanted(feature, value))


@cache
def missing_numbers(rule: TextRule, kind: Kind) -> frozenset[float]:
    """Return the rule's missing texts as numbers: float64, dates as seconds since 1970, whole numbers of categories exactly."""
    read: dict[Kind, Callable[[str, TextRule], float | None]] = {
        "numeric": parse_number,
        "categorical": _exact,
        "date": _date,
    }
    numbers = (read[kind](text.strip(), rule) for text in rule.missing)
    return frozenset(number for number in numbers if number is not None)


def _exact(text: str, rule: TextRule) -> float | None:
    return int(text) if DIGITS.fullmatch(text) else parse_number(text, rule)


def _date(text: str, rule: TextRule) -> float | None:
    try:
        return epoch_seconds(text)
    except ValueError:
        pass
    try:
        return date_parser(rule.date_format)(text) if rule.date_format else None
    except ValueError:
        return None


def _by_rule(feature: Feature, rule: TextRule, value: Any) -> Any:
    """Return the JSON value that `value` means by the feature's rule."""
    if isinstance(value, str) and feature.kind == "categorical":
        value = value.strip() if rule.strip else value
        return None if value in rule.missing else value
    if isinstance(value, str):
        value = reader_of(feature)(value)
    return None if _is_missing_number(feature, rule, value) else value


def _is_missing_number(feature: Feature, rule: TextRule, value: Any) -> bool:
    """Return whether a number stands for a missing value. Of a numeric feature it is compared as the graph gets it: float64."""
    if not isinstance(value, int | float) or isinstance(value, bool) or feature.kind == "date":
        return False  # a date is a text
    return (value if feature.kind == "categorical" else _float64(value)) in missing_numbers(rule, feature.kind)


def _float64(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _seconds(feature: Feature, value: Any) -> float:
    if not isinstance(value, str):
        raise InvalidValueError(f"expected {WANTED['date']}, got {_json_type(value)}")
    rule = feature.text_rule
    if rule is None:
        return _iso_seconds(value)
    seconds = _iso_seconds(value) if rule.date_format is None else _date(value, rule)
    if seconds is None:
        raise InvalidValueError(f"expected a date in ISO 8601 or in the format {rule.date_format}")
    if seconds in missing_numbers(rule, "date"):
        _check_missing(feature)
        return math.nan
    return seconds


def _iso_seconds(text: str) -> float:
    try:
        return epoch_seconds(text)
    except ValueError as error:
        raise InvalidValueError(f"expected {WANTED['date']}: {error}") from error


def _check_missing(feature: Feature) -> None:
    if not feature.missing:
        raise InvalidValueError(
            f"expected {_type(feature)}: null is not allowed, because the feature was never missing in training"
        )


def _wanted(feature: Feature, value: Any) -> str:
    return f"expected {_type(feature)}, got {_json_type(value)}"


def _type(feature: Feature) -> str:
    if feature.kind == "categorical" and feature.value_type != "string":
        return {"integer": "a whole number", "boolean": WANTED["boolean"]}[feature.value_type]
    return WANTED[feature.value_type]


def _json_type(value: Any) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), "null" if value is None else type(value).__name__)
