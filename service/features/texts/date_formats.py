"""Dates that are not written as ISO 8601: a format as strptime has it, with English names in every locale."""

import re
from collections.abc import Callable
from functools import cache

from batchproof.service.features.texts.dates import clock_seconds, instant

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
MONTH_NAME = r"(?P<month_name>(?:jan|feb|mar|apr|may|jun|jul|aug|sept?|oct|nov|dec)[a-z]*\.?)"
DIRECTIVES = {
    "Y": r"(?P<year>\d{4})",
    "y": r"(?P<short_year>\d{2})",
    "m": r"(?P<month>\d{1,2})",
    "d": r"(?P<day>\d{1,2})",
    "b": MONTH_NAME,
    "B": MONTH_NAME,
    "a": r"(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*",
    "A": r"(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*",
    "H": r"(?P<hour>\d{1,2})",
    "I": r"(?P<hour_of_12>\d{1,2})",
    "M": r"(?P<minute>\d{2})",
    "S": r"(?P<second>\d{2})",
    "f": r"(?P<fraction>\d{1,9})",
    "p": r"(?P<half>[ap])\.?m\.?",
    "z": r"(?P<zone>z|utc|gmt|[+-]\d{2}:?\d{2})",
    "Z": r"(?:z|utc|gmt)",
    "%": "%",
}
LATEST_2000 = 68  # two digits of a year up to here are of 2000 and later, as POSIX has it


class DateFormatError(ValueError):
    """A format that cannot be used; the sentence says why."""


@cache
def date_parser(date_format: str) -> Callable[[str], float]:
    """Return the function from a text of this format to float64 seconds since 1970; it raises ValueError for others.

    Raises DateFormatError for an unknown directive, or where day, month and year cannot be known.
    """
    pattern = _pattern(date_format)
    names = pattern.groupindex.keys()
    if not names & {"year", "short_year"}:
        raise DateFormatError(f"the date format {date_format!r} has no year: use %Y or %y")
    if "day" in names and not names & {"month", "month_name"}:
        raise DateFormatError(f"the date format {date_format!r} has a day but no month: use %m or %b")

    def parse(text: str) -> float:
        match = pattern.fullmatch(text)
        if match is None:
            raise ValueError(f"it is neither ISO 8601 nor in the format {date_format}")
        return _seconds(match.groupdict())

    return parse


def begins_with(text: str, date_format: str) -> bool:
    """Return whether a text begins with one of this format; raises DateFormatError for an unknown directive."""
    return _pattern(date_format).match(text) is not None


@cache
def _pattern(date_format: str) -> re.Pattern[str]:
    parts: list[str] = []
    signs = iter(date_format)
    for sign in signs:
        if sign != "%":
            parts.append(r"\s+" if sign == " " else re.escape(sign))
            continue
        directive = next(signs, "")
        if directive not in DIRECTIVES:
            known = " ".join(f"%{name}" for name in DIRECTIVES)
            raise DateFormatError(f"the date format {date_format!r} has %{directive}: use only {known}")
        parts.append(DIRECTIVES[directive])
    try:
        return re.compile("".join(parts), re.ASCII | re.IGNORECASE)
    except re.error as error:
        raise DateFormatError(f"the date format {date_format!r} names a part of the date twice") from error


def _seconds(parts: dict[str, str | None]) -> float:
    """Return the instant of matched parts; a part that the format lacks is the first day, or midnight."""
    return instant(
        (_year(parts), _month(parts), int(parts.get("day") or 1)),
        (_hour(parts), int(parts.get("minute") or 0), int(parts.get("second") or 0)),
        parts.get("fraction") or "0",
        _offset_seconds((parts.get("zone") or "").upper()),
    )


def _year(parts: dict[str, str | None]) -> int:
    if year := parts.get("year"):
        return int(year)
    short = int(parts["short_year"] or "0")
    return short + (2000 if short <= LATEST_2000 else 1900)


def _month(parts: dict[str, str | None]) -> int:
    if name := parts.get("month_name"):
        return MONTHS.index(name[:3].lower()) + 1
    return int(parts.get("month") or 1)


def _hour(parts: dict[str, str | None]) -> int:
    if not (hour := parts.get("hour_of_12")):
        return int(parts.get("hour") or 0)
    if not 1 <= int(hour) <= 12:
        raise ValueError("the time of day does not exist")
    return int(hour) % 12 + (12 if (parts.get("half") or "a").lower() == "p" else 0)


def _offset_seconds(zone: str) -> int:
    """Return how far local time is ahead of UTC: less than a day. Raises ValueError."""
    if zone[:1] not in ("+", "-"):
        return 0
    digits = zone[1:].replace(":", "")
    seconds = clock_seconds(int(digits[:2]), int(digits[2:]), 0)
    return seconds if zone[0] == "+" else -seconds
