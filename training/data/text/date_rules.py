"""Dates that are not ISO 8601: the formats that all of a column's texts have."""

from collections.abc import Sequence
from itertools import product

import numpy as np

from batchproof.service.features.texts.date_formats import begins_with, date_parser

DAYS = (
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%Y.%m.%d",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%m-%d-%Y",
    "%d-%m-%Y",
    "%d.%m.%Y",
    "%m/%d/%y",
    "%d/%m/%y",
    "%y/%m/%d",
    "%m-%d-%y",
    "%d-%m-%y",
    "%y-%m-%d",
    "%d.%m.%y",
    "%b %d %Y",
    "%b %d, %Y",
    "%d %b %Y",
    "%d %b, %Y",
    "%d-%b-%Y",
    "%d-%b-%y",
    "%d %b %y",
    "%d/%b/%Y",
    "%Y-%b-%d",
    "%b-%d-%Y",
    "%a %b %d %Y",
    "%a, %d %b %Y",
    "%a, %b %d, %Y",
)
MONTHS = ("%b-%Y", "%b %Y", "%b, %Y", "%Y-%m", "%Y/%m", "%m/%Y", "%m-%Y", "%b/%Y")
UNSURE = ("%b-%y", "%b %y", "%d-%b", "%b-%d")  # `Mar-18` may be a year or a day
CLOCKS = (
    "",
    *(" " + clock + zone for clock in ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f") for zone in ("", " %z", "%z")),
    *("T" + clock + zone for clock in ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f") for zone in ("", "%z")),
    " %I:%M %p",
    " %I:%M:%S %p",
    " %I:%M%p",
    ", %H:%M:%S",
    ", %I:%M:%S %p",
    ", %I:%M %p",
)
WHOLE = ("%a %b %d %H:%M:%S %Y", "%a %b %d %H:%M:%S %z %Y", "%d/%b/%Y:%H:%M:%S %z")
TRIED = 5  # texts that a format must read before it is tried on all


def fitting_formats(texts: Sequence[str], least_share: float) -> list[tuple[str, list[float | None]]]:
    """Return the formats that read the most texts, and at least that share of them, each with its instants.

    An instant is float64 seconds since 1970, None where the format does not read the text.
    """
    sample = [text.strip() for text in texts[:: max(1, len(texts) // TRIED)]]
    tried = [form for form in _formats(sample) if most([_instant(text, form) is not None for text in sample])]
    read = [(form, [_instant(text.strip(), form) for text in texts]) for form in tried]
    counts = [sum(value is not None for value in values) for _, values in read]
    best = max(counts, default=0)
    if not best or best < least_share * len(texts):
        return []
    return [entry for entry, count in zip(read, counts, strict=True) if count == best]


def are_equal(formats: Sequence[tuple[str, list[float | None]]]) -> bool:
    """Return whether all formats read the same instants."""
    first = np.array(formats[0][1], np.float64)
    return all(np.array_equal(first, np.array(values, np.float64), equal_nan=True) for _, values in formats)


def looks_unsure(texts: Sequence[str]) -> str | None:
    """Return the format that texts such as `Mar-18` would have if the number is a year; None for other texts."""
    return next((form for form in UNSURE[:2] if all(_instant(text.strip(), form) is not None for text in texts)), None)


def _formats(sample: Sequence[str]) -> list[str]:
    """Return the formats that may read most of these texts: a day's clocks are behind it, so only of days that most begin with."""
    days = [day for day in DAYS if most([begins_with(text, day) for text in sample])]
    return [*(day + clock for day, clock in product(days, CLOCKS)), *MONTHS, *WHOLE]


def most(flags: Sequence[bool]) -> bool:
    """Return whether more than half are set."""
    return sum(flags) > len(flags) // 2


def _instant(text: str, date_format: str) -> float | None:
    try:
        return date_parser(date_format)(text)
    except ValueError:
        return None
