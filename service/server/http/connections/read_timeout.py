"""The time that a request's headers and body may take to arrive.

One timer for each connection looks at the clock when a request could be late; a request costs one look at the clock
and no timer of its own.
"""

import asyncio
from collections.abc import Callable


class Arrival:
    """Whether the request that a connection is reading has come in time."""

    __slots__ = ("_loop", "_on_late", "_on_look", "_timeout_s", "_timer", "since_s")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        timeout_s: float,
        on_late: Callable[[], None],
        on_look: Callable[[], None] = lambda: None,
    ) -> None:
        """Begin to wait: the first request of a connection has to come in time too.

        `on_look` is called at each look at the clock, at least once in `timeout_s`.
        """
        self._loop = loop
        self._timeout_s = timeout_s
        self._on_late = on_late
        self._on_look = on_look
        self.since_s: float | None = loop.time()  # when the request began to arrive; None while none is awaited
        self._timer = loop.call_later(timeout_s, self._look)

    def stop(self) -> None:
        """Cancel the timer: the connection is closed."""
        self._timer.cancel()

    def _look(self) -> None:
        """Call `on_late` where a request is late; look again when one could be, in case the connection stays open."""
        self._on_look()
        now_s = self._loop.time()
        left_s = self._timeout_s
        if self.since_s is not None:
            left_s = min(left_s, self.since_s + self._timeout_s - now_s)
        if left_s <= 0:
            left_s = self._timeout_s
            self._on_late()
        self._timer = self._loop.call_later(left_s, self._look)
