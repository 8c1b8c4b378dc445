"""A request's body on its way to another process: the kernel holds what that has not read yet, and no more."""

import asyncio
import socket
from collections.abc import Callable


class BodySocket:
    """A body that is written by one event loop and read by one process. All methods are called on the loop."""

    def __init__(self) -> None:
        """Begin empty; `theirs` is the process's end. Raises OSError at the limit of descriptors."""
        self._ours, self.theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._has_ended = asyncio.Event()
        self._is_dropped = False  # whether nobody reads the rest
        self.on_fault: Callable[[Exception], None] = lambda _: None
        self.is_whole = False  # whether the body has come to its end

    async def put(self, data: bytes) -> None:
        """Add a chunk and wait while there is too much."""
        if self._is_dropped:
            return
        try:
            await asyncio.get_running_loop().sock_sendall(self._ours, data)
        except OSError:  # the process has ended, or nobody reads the rest: that says itself why
            self._is_dropped = True

    def end(self, fault: Exception | None = None) -> None:
        """Say that nothing more comes, or why."""
        if fault is None:
            self._shut(socket.SHUT_WR)
        elif not self.is_whole:
            self.on_fault(fault)
        self.is_whole = True
        self._has_ended.set()

    async def drop_rest(self) -> None:
        """Read the rest of the body and forget it, up to its end: a caller may read no answer before."""
        self._is_dropped = True
        self._shut(socket.SHUT_RDWR)  # a chunk that waits for the process waits no longer
        await self._has_ended.wait()

    def let_go(self) -> None:
        """Close the socket: nobody needs the rest."""
        self._ours.close()

    def _shut(self, how: int) -> None:
        try:
            self._ours.shutdown(how)
        except OSError:  # the process has ended
            self._is_dropped = True
