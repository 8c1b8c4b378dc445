"""How much a caller may ask for: token buckets for requests and for rows.

A bucket holds at most one second's worth and refills evenly. A request is paid for on arrival. Rows are only known once
the body is read, so they are charged afterwards: a caller whose account is overdrawn waits until it is refilled.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from batchproof.service.errors import ServiceError


class Bucket:
    """Units that refill at `per_s`, up to one second's worth, and at least to one unit."""

    def __init__(self, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Start full."""
        self.per_s = per_s
        self._clock = clock
        self._most = max(per_s, 1.0)
        self._level = self._most
        self._at_s = clock()

    def wait_s(self, units: float) -> float:
        """Return the seconds until `units` are there; 0 where they are."""
        now_s = self._clock()
        self._level = min(self._most, self._level + (now_s - self._at_s) * self.per_s)
        self._at_s = now_s
        return max(0.0, (units - self._level) / self.per_s)

    def take(self, units: float) -> None:
        """Take units, more than there are if need be."""
        self._level -= units


@dataclass(frozen=True)
class Limits:
    """What one caller may ask of one process; None: as much as it likes."""

    requests_per_s: float | None = None
    rows_per_s: float | None = None

    def shared(self, workers: int) -> "Limits":
        """Return one worker's part: connections are spread evenly over the workers."""
        return Limits(*(None if limit is None else limit / workers for limit in (self.requests_per_s, self.rows_per_s)))


class Account:
    """What one caller has asked for lately, whatever number of keys it has."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with a full second's worth of everything."""
        self.limits = limits
        self.is_open = limits == Limits()  # there is nothing to pay for
        self._requests = None if limits.requests_per_s is None else Bucket(limits.requests_per_s, clock)
        self._rows = None if limits.rows_per_s is None else Bucket(limits.rows_per_s, clock)

    def admit(self) -> None:
        """Pay for one request; raises 429 with the seconds to wait where the account does not allow it."""
        if self.is_open:
            return
        for bucket, units, what in ((self._requests, 1.0, "requests"), (self._rows, 0.0, "rows")):
            if bucket is not None and (wait_s := bucket.wait_s(units)) > 0:
                raise ServiceError(
                    429,
                    "over_quota",
                    f"The quota of this caller is {bucket.per_s:g} {what} a second; try again in {wait_s:.2g} s.",
                    retry_after_s=math.ceil(wait_s),
                )
        if self._requests is not None:
            self._requests.take(1.0)

    def charge(self, rows: int) -> None:
        """Pay for the rows of an admitted request."""
        if self._rows is not None:
            self._rows.wait_s(0.0)  # brings the level up to date
            self._rows.take(float(rows))
