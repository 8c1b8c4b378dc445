"""ISO 8601 dates to seconds since 1970-01-01T00:00:00Z, the same in training and in scoring."""

import re
from datetime import date

EPOCH_DAY = date(1970, 1, 1).toordinal()
DAY_S = 86_400
# A date, or a date and a time to the minute, second or a fraction of it, with Z or an offset or neither.
PATTERN = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})"
    r"(?:[Tt ](\d{2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?(?:([Zz])|([+-])(\d{2}):?(\d{2})?)?)?",
    re.ASCII,
)
DAY_FIRST = re.compile(r"\s*\d{1,2}([./-])\d{1,2}\1\d{2}(?:\d{2})?\b.*", re.ASCII)


def ends_in_year(text: str) -> bool:
    """Return whether a text looks like a date that is written as 29.02.2024 or 2/29/24."""
    return DAY_FIRST.fullmatch(text) is not None


def epoch_seconds(text: str) -> float:
    """Return the instant as float64 seconds; without an offset it is UTC.

    Digits of a second beyond the microsecond are dropped. Raises ValueError with a clause that says what is wrong.
    """
    match = PATTERN.fullmatch(text)
    if match is None:
        hint = ", write 2024-02-29 for 29.02.2024 and 2/29/2024" if ends_in_year(text) else ""
        raise ValueError(f"it is not in that form{hint}")
    year, month, day, hour, minute, second, fraction, _, sign, offset_hour, offset_minute = match.groups()
    offset_s = clock_seconds(int(offset_hour or "0"), int(offset_minute or "0"), 0)
    return instant(
        (int(year), int(month), int(day)),
        (int(hour or "0"), int(minute or "0"), int(second or "0")),
        fraction or "0",
        -offset_s if sign == "-" else offset_s,
    )


def instant(day: tuple[int, int, int], clock: tuple[int, int, int], fraction: str, offset_s: int) -> float:
    """Return float64 seconds since 1970 of (year, month, day) and (hour, minute, second).

    `fraction` is the digits of the second's fraction; `offset_s` says how far the clock is ahead of UTC.
    Raises ValueError for a day or a time of day that does not exist.
    """
    days = date(*day).toordinal() - EPOCH_DAY
    seconds = days * DAY_S + clock_seconds(*clock) - offset_s
    microseconds = int(fraction.ljust(6, "0")[:6])
    return (seconds * 1_000_000 + microseconds) / 1_000_000  # one correctly rounded division


def clock_seconds(hours: int, minutes: int, seconds: int) -> int:
    """Return the seconds since midnight. Raises ValueError for a time of day that does not exist."""
    if hours > 23 or minutes > 59 or seconds > 59:
        raise ValueError("the time of day does not exist")
    return hours * 3600 + minutes * 60 + seconds
