"""Places for tables: how many are answered at a time, and which caller has to give its place to another.

A table may take an hour, and its caller may send slowly, as long as nobody else needs the place. Where every place is taken
and another table comes, the slowest caller that sends less than LEAST_BYTES_PER_S loses its own.
"""

import time
from collections.abc import Callable

from batchproof.service.errors import ServiceError

LEAST_BYTES_PER_S = 1024.0  # of a body, while the service waits for its parts
GRACE_S = 5.0  # of waiting, before a caller is called slow


class TableSlot:
    """One table's place, and how its body comes."""

    __slots__ = ("_begun_s", "_received_bytes", "_waited_s", "give_up")

    def __init__(self) -> None:
        """Begin with nothing received."""
        self.give_up: Callable[[ServiceError], None] | None = None  # ends the body; None once it is whole
        self._received_bytes = 0
        self._waited_s = 0.0
        self._begun_s: float | None = None  # when the wait that goes on began

    def wait(self) -> None:
        """Note that the next part of the body is awaited: only such time counts, not what the engine takes."""
        self._begun_s = time.monotonic()

    def received(self, size: int) -> None:
        """Note a part of the body."""
        self._waited_s = self.waited_s
        self._begun_s = None
        self._received_bytes += size

    @property
    def waited_s(self) -> float:
        """Return how long parts of the body were awaited."""
        return self._waited_s + (0.0 if self._begun_s is None else time.monotonic() - self._begun_s)

    @property
    def bytes_per_s(self) -> float:
        """Return how fast the body comes."""
        return self._received_bytes / max(self.waited_s, 1e-9)

    @property
    def is_slow(self) -> bool:
        """Return whether the caller has to give its place to another."""
        return self.give_up is not None and self.waited_s > GRACE_S and self.bytes_per_s < LEAST_BYTES_PER_S


class TableSlots:
    """The places of one process, all models together."""

    def __init__(self, most: int) -> None:
        """Take up to `most` tables."""
        self._most = most
        self._taken: set[TableSlot] = set()

    def take(self) -> TableSlot:
        """Take a place; raises 429 where there is none, and then the slowest caller begins to lose its own."""
        if len(self._taken) >= self._most:
            self._end_slowest()
            raise ServiceError(
                429, "overloaded", f"{len(self._taken)} tables are being answered, which is the limit; try again.",
                retry_after_s=1,
            )  # fmt: skip
        slot = TableSlot()
        self._taken.add(slot)
        return slot

    def leave(self, slot: TableSlot) -> None:
        """Give a place back."""
        self._taken.discard(slot)

    def _end_slowest(self) -> None:
        slow = [slot for slot in self._taken if slot.is_slow]
        if not slow:
            return
        slowest = min(slow, key=lambda slot: slot.bytes_per_s)
        if slowest.give_up is not None:
            slowest.give_up(
                ServiceError(
                    408,
                    "body_stalled",
                    f"The body came at less than {LEAST_BYTES_PER_S:g} bytes a second while other tables waited.",
                )
            )
            slowest.give_up = None
