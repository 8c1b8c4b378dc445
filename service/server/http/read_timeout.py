"""The time that a request's headers and body may take to arrive.

One timer for each connection looks at the clock when a request could be late; a request costs one look at the clock
and no timer of its own.
"""

import asyncio
from collections.abc import Callable


class Arrival:
    """Whether the request that a connection is reading has come in time."""

    __slots__ = ("_loop", "_on_late", "_since_s", "_timeout_s", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout_s: float, on_late: Callable[[], None]) -> None:
        """Begin to wait: the first request of a connection has to come in time too."""
        self._loop = loop
        self._timeout_s = timeout_s
        self._on_late = on_late
        self._since_s: float | None = loop.time()
        self._timer = loop.call_later(timeout_s, self._look)

    def begin(self) -> None:
        """Wait for the request that begins to arrive."""
        self._since_s = self._loop.time()

    def end(self) -> None:
        """Stop waiting: the request is whole, or somebody else bounds its time."""
        self._since_s = None

    def stop(self) -> None:
        """Let the timer go: the connection is closed."""
        self._timer.cancel()

    def _look(self) -> None:
        """Call `on_late` where a request is late; look again when one could be, in case the connection stays open."""
        now_s = self._loop.time()
        left_s = self._timeout_s if self._since_s is None else self._since_s + self._timeout_s - now_s
        if left_s <= 0:
            left_s = self._timeout_s
            self._on_late()
        self._timer = self._loop.call_later(left_s, self._look)
