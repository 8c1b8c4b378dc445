"""The time that a request's headers and body may take to arrive.

One timer for each connection looks at the clock when a request could be late; a request costs one look at the clock
and no timer of its own.
"""

import asyncio
from collections.abc import Callable


class Arrival:
    """Whether the request that a connection is reading has come in time."""

    __slots__ = ("_loop", "_on_late", "_timeout_s", "_timer", "since_s")

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout_s: float, on_late: Callable[[], None]) -> None:
        """Begin to wait: the first request of a connection has to come in time too."""
        self._loop = loop
        self._timeout_s = timeout_s
        self._on_late = on_late
        self.since_s: float | None = loop.time()  # when the request began to arrive; None while none is awaited
        self._timer = loop.call_later(timeout_s, self._look)

    def stop(self) -> None:
        """Cancel the timer: the connection is closed."""
        self._timer.cancel()

    def _look(self) -> None:
        """Call `on_late` where a request is late; look again when one could be, in case the connection stays open."""
        now_s = self._loop.time()
        left_s = self._timeout_s if self.since_s is None else self.since_s + self._timeout_s - now_s
        if left_s <= 0:
            left_s = self._timeout_s
            self._on_late()
        self._timer = self._loop.call_later(left_s, self._look)
