"""Admission control: limits on the queued rows and on the expected wait of one process.

The limit on rows bounds the memory. The limit on time bounds the wait: a request is refused at once if the rows ahead of it
need more than half of its deadline, because a late answer costs as much as one in time and is useless.
"""

import math
from asyncio import TimerHandle
from collections.abc import Callable
from typing import Any, Protocol

from batchproof.service import errors
from batchproof.service.errors import ServiceError
from batchproof.service.features.arrays import Arrays, Outputs

# The part of its deadline that a request may be expected to wait; the rest covers errors of the estimate.
WAIT_SHARE = 0.5

Reply = Callable[[Outputs | None, ServiceError | None], None]  # exactly one of the two is given


class Lane:
    """The work that waits for the event loop, or for the worker thread, of all models together."""

    __slots__ = ("waiting_s",)

    def __init__(self) -> None:
        """Start empty."""
        self.waiting_s = 0.0  # estimated seconds of work of every admitted row that is not answered


class Recording(Protocol):
    """Rows on their way to a record."""

    def then(self, answer: Callable[[ServiceError | None], None]) -> None:
        """Call `answer` once, on the event loop, when they are recorded, or with the reason why not."""


class Ticket:
    """One admitted request: its arrays, its estimated cost, its deadline and its reply."""

    __slots__ = (
        "admitted_s",
        "arrays",
        "deadline_s",
        "is_open",
        "is_running",
        "lane",
        "note",
        "reply",
        "rows",
        "timeout_s",
        "timer",
        "work_s",
        "written",
    )

    def __init__(
        self, arrays: Arrays, rows: int, lane: Lane, work_s: float, now_s: float, timeout_s: float, reply: Reply
    ) -> None:
        """Hold `rows` rows that must start to run within `timeout_s` of `now_s` (monotonic clock)."""
        self.arrays = arrays
        self.rows = rows
        self.lane = lane
        self.work_s = work_s  # as it was estimated when the ticket was admitted
        self.admitted_s = now_s
        self.timeout_s = timeout_s
        self.deadline_s = now_s + timeout_s
        self.reply = reply
        # What a recorder of answers keeps of the request beside its rows; None: it does not keep it.
        self.note: Any = None
        self.written: Recording | None = None  # what the answer has to wait for, where the recorder says so
        self.is_running = False
        self.timer: TimerHandle | None = None  # answers 504 in time for a ticket that waits for the thread
        self.is_open = True  # False once answered or cancelled: the reply is called at most once

    def stop_timer(self) -> None:
        """Cancel the timer, which would hold the arrays until it fires."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Admission:
    """The bounds on admitted rows, shared by all models of one process."""

    __slots__ = ("_on_empty", "is_draining", "limit_rows", "loop", "queued_rows", "thread")

    def __init__(self, limit_rows: int) -> None:
        """Admit up to `limit_rows` rows; a single larger request is admitted only when nothing is queued."""
        self.limit_rows = limit_rows
        self.queued_rows = 0
        self.loop = Lane()  # small requests, run on the event loop
        self.thread = Lane()  # large ones, run on the worker thread
        self.is_draining = False
        self._on_empty: Callable[[], None] | None = None

    def check(self, rows: int, lane: Lane, timeout_s: float) -> None:
        """Raise what `enter` would raise: 429 where `rows` rows have no room, 503 when draining."""
        if self.is_draining:
            raise errors.draining()
        queued = self.queued_rows
        if not queued:
            return
        if queued + rows > self.limit_rows:
            raise errors.overloaded(queued, self.limit_rows, retry_after_s=math.ceil(lane.waiting_s) or 1)
        if lane.waiting_s > WAIT_SHARE * timeout_s:
            raise errors.too_busy(lane.waiting_s, timeout_s)

    def enter(self, rows: int, lane: Lane, work_s: float, timeout_s: float) -> None:
        """Add a request of `rows` rows and `work_s` seconds to a lane; raises 429 where it has no room, 503 when draining."""
        self.check(rows, lane, timeout_s)
        self.queued_rows += rows
        lane.waiting_s += work_s

    def leave(self, ticket: Ticket) -> None:
        """Remove a ticket from its lane."""
        self.queued_rows -= ticket.rows
        ticket.lane.waiting_s -= ticket.work_s
        if self.queued_rows == 0:
            self.loop.waiting_s = self.thread.waiting_s = 0.0  # the rest is rounding
            if self._on_empty is not None:
                self._on_empty()
                self._on_empty = None

    def drain(self, on_empty: Callable[[], None]) -> None:
        """Admit nothing more and call `on_empty` once every admitted row is answered."""
        self.is_draining = True
        if self.queued_rows == 0:
            on_empty()
        else:
            self._on_empty = on_empty


FIRST_ROW_S = 20e-6  # estimate before the first run: ten times the time of a small network


FIRST_ROWS = 64  # how many rows that guess counts for


MEMORY = 0.875  # what a run leaves of the weight of those before it


class Pace:
    """Seconds a row of one model takes, over the last few runs and weighted by their rows.

    A run has a fixed cost and a cost for each row. Weighted by rows, the estimate describes rows that run together, as
    waiting rows do.
    """

    __slots__ = ("_rows", "_seconds", "row_s")

    def __init__(self) -> None:
        """Start with a guess that is rather too slow: the first requests leave the event loop early."""
        self._rows = float(FIRST_ROWS)
        self._seconds = FIRST_ROWS * FIRST_ROW_S
        self.row_s = FIRST_ROW_S  # seconds a row, estimated

    def follow(self, other: "Pace") -> None:
        """Begin with what another version of the model has learned: a better guess than none."""
        self._rows, self._seconds, self.row_s = other._rows, other._seconds, other.row_s  # noqa: SLF001 - of its own kind

    def ran(self, rows: int, seconds: float) -> None:
        """Learn from one run."""
        if rows:
            self._rows = MEMORY * self._rows + rows
            self._seconds = MEMORY * self._seconds + seconds
            self.row_s = self._seconds / self._rows
