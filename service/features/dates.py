"""ISO 8601 dates to seconds since 1970-01-01T00:00:00Z, the same on reading a table and at serving."""

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
    found = PATTERN.fullmatch(text)
    if found is None:
        hint = ", write 2024-02-29 for 29.02.2024 and 2/29/2024" if ends_in_year(text) else ""
        raise ValueError(f"it is not in that form{hint}")
    year, month, day, hour, minute, second, fraction, _, sign, offset_hour, offset_minute = found.groups()
    days = date(int(year), int(month), int(day)).toordinal() - EPOCH_DAY
    seconds = days * DAY_S + _clock(hour, minute, second or "0")
    if sign:
        offset = _clock(offset_hour, offset_minute or "0", "0")
        seconds -= offset if sign == "+" else -offset
    microseconds = int((fraction or "0").ljust(6, "0")[:6])
    return (seconds * 1_000_000 + microseconds) / 1_000_000  # one correctly rounded division


def _clock(hour: str | None, minute: str | None, second: str) -> int:
    hours, minutes, seconds = int(hour or "0"), int(minute or "0"), int(second)
    if hours > 23 or minutes > 59 or seconds > 59:
        raise ValueError("the time of day does not exist")
    return hours * 3600 + minutes * 60 + seconds
