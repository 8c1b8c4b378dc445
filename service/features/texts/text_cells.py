"""Convert the cells of a text table to JSON values, feature by feature.

These functions define what a text cell means, for training and for scoring: training reads its tables with them.
Some cells are missing values. All others are read as the feature's type. A cell that cannot be read stays a text, so that
the encoder refuses it with its usual message for such a value.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from batchproof.service.bundle.signature import Feature, TextRule
from batchproof.service.features.texts.number_texts import NAN, parse_number

# Cells that are missing values in text tables, for training too. In JSON, which has null, they are texts.
MISSING = frozenset({"", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "none", "#N/A", "?"})
ONLY_EMPTY = frozenset({""})
WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
COMMA = re.compile(r"\s*[+-]?(?:[0-9][0-9.]*)?,[0-9][0-9.,]*(?:[eE][+-]?[0-9]+)?\s*", re.ASCII)
BOOLEANS = {"true": True, "false": False, "1": True, "0": False}
USUAL = TextRule()


def reader_of(feature: Feature) -> Callable[[str], Any]:
    """Return the function from a cell of `feature` to a JSON value."""
    rule = feature.text_rule or USUAL
    missing = missing_cells(rule)
    if feature.value_type == "boolean":
        return partial(_boolean, missing, rule)
    if feature.kind == "numeric":
        return partial(_number, missing, rule)
    if feature.value_type == "integer":
        return partial(_whole, missing, rule)
    if feature.kind == "date":
        return partial(_stripped, missing)
    # Typed tables may have taught the model a category that is spelled like a missing value: then it is that category.
    missing = missing.difference(set(feature.categories or ()).difference(rule.missing))
    return partial(_stripped if rule.strip else _text, missing)


def missing_cells(rule: TextRule) -> frozenset[str]:
    """Return the cells that are missing values by `rule`, without blanks around them."""
    return (MISSING if rule.usual_missing else ONLY_EMPTY).union(rule.missing)


def has_comma(text: str) -> bool:
    """Return whether a text would be a number without the comma in it, which separates decimals or thousands."""
    return COMMA.fullmatch(text) is not None


def _number(missing: frozenset[str], rule: TextRule, cell: str) -> Any:
    """Return a float, None for a missing value or NaN, which has many spellings, or the cell where it is not a number."""
    text = cell.strip()
    if text in missing or NAN.fullmatch(text):
        return None
    number = parse_number(text, rule)
    return cell if number is None else number


def _whole(missing: frozenset[str], rule: TextRule, cell: str) -> Any:
    text = cell.strip()
    if text in missing:
        return None
    if WHOLE.fullmatch(text):
        return int(text)  # a float would round what is beyond 2^53
    number = _number(missing, rule, cell)
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _boolean(missing: frozenset[str], rule: TextRule, cell: str) -> Any:
    """Return true or false, None for a missing value, a number as JSON has it (1.0 is true, 7 is refused), or the cell."""
    text = cell.strip()
    if text in missing:
        return None
    value = BOOLEANS.get(text.lower())
    return _number(missing, rule, cell) if value is None else value


def _stripped(missing: frozenset[str], cell: str) -> str | None:
    text = cell.strip()
    return None if text in missing else text


def _text(missing: frozenset[str], cell: str) -> str | None:
    return None if cell in missing else cell
