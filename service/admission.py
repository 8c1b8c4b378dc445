"""Who may wait: tickets, and the bound on the rows that all tickets of one process hold together."""

from asyncio import TimerHandle
from collections.abc import Callable, Mapping

import numpy as np

from service import errors
from service.errors import ServiceError
from service.features import Arrays

Outputs = Mapping[str, np.ndarray]  # each [rows, width]
Reply = Callable[[Outputs | None, ServiceError | None], None]  # exactly one of the two is given


class Ticket:
    """One admitted request: its arrays, its deadline and whom to tell."""

    __slots__ = ("admitted_s", "arrays", "deadline_s", "is_open", "is_running", "reply", "rows", "timeout_s", "timer")

    def __init__(self, arrays: Arrays, rows: int, now_s: float, timeout_s: float, reply: Reply) -> None:
        """Hold `rows` rows that must start to run within `timeout_s` of `now_s` (monotonic clock)."""
        self.arrays = arrays
        self.rows = rows
        self.admitted_s = now_s
        self.timeout_s = timeout_s
        self.deadline_s = now_s + timeout_s
        self.reply = reply
        self.is_running = False
        self.timer: TimerHandle | None = None  # a waiting ticket of many rows is told in time that it is late
        self.is_open = True  # False once answered or cancelled: the reply is called at most once

    def stop_timer(self) -> None:
        """Let go of the timer, and so of the arrays: it would hold them until it fires."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Admission:
    """The bound on admitted rows, shared by all models of one process."""

    __slots__ = ("_on_empty", "is_draining", "limit_rows", "queued_rows")

    def __init__(self, limit_rows: int) -> None:
        """Admit up to `limit_rows` rows; a single larger request is admitted only when nothing is queued."""
        self.limit_rows = limit_rows
        self.queued_rows = 0
        self.is_draining = False
        self._on_empty: Callable[[], None] | None = None

    def enter(self, rows: int) -> None:
        """Take `rows` places; raises 429 at once where there are none, 503 when draining."""
        if self.is_draining:
            raise errors.draining()
        queued = self.queued_rows
        if queued and queued + rows > self.limit_rows:
            raise errors.overloaded(queued, self.limit_rows)
        self.queued_rows = queued + rows

    def leave(self, rows: int) -> None:
        """Give `rows` places back."""
        self.queued_rows -= rows
        if self._on_empty is not None and self.queued_rows == 0:
            self._on_empty()
            self._on_empty = None

    def drain(self, on_empty: Callable[[], None]) -> None:
        """Admit nothing more and call `on_empty` once every admitted row is answered."""
        self.is_draining = True
        if self.queued_rows == 0:
            on_empty()
        else:
            self._on_empty = on_empty
