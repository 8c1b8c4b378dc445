"""Journalled numbers and codes back to the values that people know: categories as texts, dates, true and false."""

import math
from typing import Any, NamedTuple

import numpy as np

from batchproof.service.bundle.signature import Feature

MISSING = "missing"
WHOLE = 2**53  # up to which every whole number is itself
UNSEEN = "a category that training did not see"


class Shown(NamedTuple):
    """One value for a reader."""

    value: Any  # JSON; None where `note` says why there is no value
    note: str = ""


def shown(feature: Feature, number: float) -> Shown:
    """Return what a feature's number or category code stands for."""
    if feature.kind == "categorical":
        code = int(number)
        if code < feature.missing_code:
            return Shown((feature.categories or ())[code])
        return Shown(None, MISSING if code == feature.missing_code else UNSEEN)
    if math.isnan(number):
        return Shown(None, MISSING)
    note = _beyond(feature, number)
    if feature.kind == "date":
        return Shown(iso(number), note)
    return Shown(number == 1.0 if feature.value_type == "boolean" else number, note)


def text(value: Any) -> str:
    """Return a value for people: whole numbers without a fraction."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < WHOLE else str(value)


def _beyond(feature: Feature, number: float) -> str:
    """Return that a number or date is outside the range of training; empty where it is not, or no range is known."""
    if feature.range is None or feature.value_type == "boolean" or feature.range[0] <= number <= feature.range[1]:
        return ""
    least, most = (iso(bound) if feature.kind == "date" else text(bound) for bound in feature.range)
    return f"outside the range of training, {least} to {most}"


def iso(seconds: float) -> str:
    """Return seconds since 1970 as ISO 8601 in UTC, without a fraction where there is none."""
    microseconds = round(seconds * 1e6)
    text = str(np.datetime64(microseconds, "us"))
    return (text.partition(".")[0] if microseconds % 1_000_000 == 0 else text) + "Z"
