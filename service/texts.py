"""Cells of a text table to the JSON values that they stand for, feature by feature.

An empty cell is a missing value. Everything else is read as the feature's type asks; what cannot be is left as text,
so that the encoder refuses it with the sentence it has for such a value.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from service.manifest import Feature

WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


def readers(features: Sequence[Feature]) -> list[Callable[[str], Any]]:
    """Return, for each feature, the function from a cell to a JSON value."""
    return [reader_of(feature) for feature in features]


def reader_of(feature: Feature) -> Callable[[str], Any]:
    """Return the function from a cell of `feature` to a JSON value."""
    if feature.value_type == "boolean":
        return _boolean
    if feature.kind == "numeric":
        return _number
    if feature.value_type == "integer":
        return _whole
    # An empty text may be a category of its own; then it is not missing.
    return _text if "" not in (feature.categories or ()) else str


def _number(cell: str) -> Any:
    text = cell.strip()
    if not text:
        return None
    try:
        return float(text) if text.isascii() and "_" not in text else cell
    except ValueError:
        return cell


def _whole(cell: str) -> Any:
    text = cell.strip()
    if WHOLE.fullmatch(text):
        return int(text)  # a float would round what is beyond 2^53
    number = _number(cell)
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _boolean(cell: str) -> Any:
    text = cell.strip().lower()
    return BOOLEANS.get(text, cell) if text else None


def _text(cell: str) -> Any:
    return cell or None
