"""The time that a caller may take to read its answer.

What a caller does not read waits in this process, and counts among the bytes in flight. While bytes wait, one timer of the
connection looks whether at least `LEAST_BYTES_S` bytes a second have left; where they have not, the connection is cut. No
timer runs while nothing waits.
"""

import asyncio

from batchproof.service.server.serving.app import App

LEAST_BYTES_S = 1024  # a modem of 1990 is faster


class WriteTimeout:
    """Whether the caller of one connection reads what is written."""

    __slots__ = (
        "_counted_bytes",
        "_has_resumed",
        "_in_flight",
        "_last_bytes",
        "_loop",
        "_timeout_s",
        "_timer",
        "_transport",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, app: App) -> None:
        """Look every `write_timeout_s` seconds once `start` was called; what waits then is in flight."""
        self._in_flight = app.shared.in_flight
        self._counted_bytes = 0
        self._loop = loop
        self._transport = transport
        self._timeout_s = app.settings.write_timeout_s
        self._timer: asyncio.TimerHandle | None = None
        self._last_bytes = 0
        self._has_resumed = False

    def start(self) -> None:
        """Begin to look, if bytes wait and nobody looks yet."""
        self._count(self._transport.get_write_buffer_size())
        if self._timer is None and self._transport.get_write_buffer_size():
            self._wait()

    def resumed(self) -> None:
        """Note that what waited has become little: that is progress, whatever was written behind it."""
        self._has_resumed = True
        self._count(0)

    def stop(self) -> None:
        """Cancel the timer: the connection is closed."""
        self._count(0)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _count(self, waiting_bytes: int) -> None:
        if waiting_bytes != self._counted_bytes:
            self._in_flight.hold(waiting_bytes - self._counted_bytes)
            self._counted_bytes = waiting_bytes

    def _wait(self) -> None:
        self._last_bytes = self._transport.get_write_buffer_size()
        self._has_resumed = False
        self._timer = self._loop.call_later(self._timeout_s, self._look)

    def _look(self) -> None:
        self._timer = None
        waiting_bytes = self._transport.get_write_buffer_size()
        self._count(waiting_bytes)
        if not waiting_bytes:
            return
        least = min(self._last_bytes, LEAST_BYTES_S * self._timeout_s)
        if self._has_resumed or self._last_bytes - waiting_bytes >= least:
            self._wait()
        else:
            self._transport.abort()
