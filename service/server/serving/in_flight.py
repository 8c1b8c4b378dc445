"""The bytes that one process holds for callers: bodies that arrive, are unpacked or not yet answered, and answers that nobody reads.

A limit on one body bounds one caller. This bounds all of them together, whatever the number of their connections.
"""

from threading import Lock
from typing import Self

from batchproof.service.configuration.settings import Settings
from batchproof.service.errors import ServiceError
from batchproof.service.runtime import memory

# Bodies may take one part in so many of the memory there is: parsed rows take several times their text.
MEMORY_SHARE = 4
MOST_BYTES = 256 << 20  # by default, however much memory there is


class InFlight:
    """The bytes that are held now, and the most that may be. Any thread may take and give."""

    def __init__(self, limit_bytes: int) -> None:
        """Hold up to `limit_bytes`."""
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self._lock = Lock()

    def check(self, length: int) -> None:
        """Raise 429 where a body of this length would have no room."""
        if self.held_bytes + length > self.limit_bytes:
            raise ServiceError(
                429,
                "overloaded",
                f"Bodies that arrive and answers that are not yet read hold {self.held_bytes} of at most {self.limit_bytes} "
                "bytes, and there is no room for this one; try again.",
                retry_after_s=1,
            )

    def take(self, count: int) -> None:
        """Hold `count` bytes more; raises 429 where there is no room for them, and holds none of them then."""
        with self._lock:
            self.check(count)
            self.held_bytes += count

    def hold(self, count: int) -> None:
        """Hold `count` bytes more that are there already, whatever the limit; fewer where it is negative."""
        with self._lock:
            self.held_bytes += count

    def give(self, count: int) -> None:
        """Let go of bytes that were taken."""
        with self._lock:
            self.held_bytes -= count


class Share:
    """What one request holds of the bytes in flight; at the end of the block it lets go of all."""

    def __init__(self, in_flight: InFlight) -> None:
        """Begin with nothing."""
        self._in_flight = in_flight
        self._bytes = 0

    def take(self, count: int) -> None:
        """Hold `count` bytes more; raises 429."""
        self._in_flight.take(count)
        self._bytes += count

    def __enter__(self) -> Self:
        """Begin the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go."""
        self._in_flight.give(self._bytes)
        self._bytes = 0


def limit_of(settings: Settings) -> int:
    """Return the most bytes of bodies that one worker may hold."""
    if settings.max_inflight_bytes:
        return settings.max_inflight_bytes
    return min(MOST_BYTES, memory.limit_bytes() // (MEMORY_SHARE * settings.workers))
