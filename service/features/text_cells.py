"""Cells of a text table to the JSON values that they stand for, feature by feature.

Some cells are missing values. Everything else is read as the feature's type asks; what cannot be is left as text, so
that the encoder refuses it with the sentence it has for such a value.
"""

import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from batchproof.service.bundle.signature import Feature

# Cells that are missing values wherever a text is read, for training too. JSON has null: there they are texts.
MISSING = frozenset({"", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "none", "#N/A", "?"})
WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
COMMA = re.compile(r"\s*[+-]?(?:[0-9][0-9.]*)?,[0-9][0-9.,]*(?:[eE][+-]?[0-9]+)?\s*", re.ASCII)
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
    # Typed tables may have taught the model a category that is spelled like a missing value: then it is that category.
    return partial(_text, MISSING.difference(feature.categories or ()))


def has_comma(text: str) -> bool:
    """Return whether a text is a number but for a comma in it, of decimals or of thousands."""
    return COMMA.fullmatch(text) is not None


def _number(cell: str) -> Any:
    text = cell.strip()
    if text in MISSING:
        return None
    try:
        number = float(text) if text.isascii() and "_" not in text else cell
    except ValueError:
        return cell
    return None if isinstance(number, float) and math.isnan(number) else number  # NaN has many spellings


def _whole(cell: str) -> Any:
    text = cell.strip()
    if WHOLE.fullmatch(text):
        return int(text)  # a float would round what is beyond 2^53
    number = _number(cell)
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _boolean(cell: str) -> Any:
    text = cell.strip()
    return None if text in MISSING else BOOLEANS.get(text.lower(), cell)


def _text(missing: frozenset[str], cell: str) -> str | None:
    return None if cell in missing else cell
