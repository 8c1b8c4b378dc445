"""When to ask again: the queue was full (429), the service is not there or not ready (503), or it cannot be reached."""

from collections.abc import Mapping
from dataclasses import dataclass

AGAIN = (429, 503)


@dataclass(frozen=True)
class Retries:
    """When and how often to retry. Predictions change no state, so a retry does no harm."""

    most: int = 8  # retries of one request
    first_pause_s: float = 0.1  # doubled from try to try
    longest_pause_s: float = 10.0  # the longest Retry-After that is honoured; beyond it the client gives up

    def pause_s(self, tries: int, status: int | None, headers: Mapping[str, str]) -> float | None:
        """Return how long to wait after the `tries`th try (from 1 up), or None to give up; status None: no answer."""
        if tries > self.most or (status is not None and status not in AGAIN):
            return None
        asked_s = _seconds(headers.get("retry-after", ""))
        if asked_s is not None and asked_s > self.longest_pause_s:
            return None
        backoff_s = min(self.first_pause_s * 2 ** min(tries - 1, 30), self.longest_pause_s)
        return backoff_s if asked_s is None else max(asked_s, backoff_s if asked_s == 0 else 0.0)


def _seconds(text: str) -> float | None:
    """Return Retry-After where it is a number of seconds, as this service sends it."""
    return float(text) if text.strip().isdecimal() else None
