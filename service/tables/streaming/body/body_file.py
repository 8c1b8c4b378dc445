"""A request's body as a file: the event loop puts chunks in, a thread reads them as they come, memory holds a few."""

import asyncio
import io
from collections import deque
from threading import Condition
from typing import TYPE_CHECKING

from batchproof.service.errors import CallerGoneError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

FULL_BYTES = 1 << 20  # held before the loop is asked to wait


class BodyFile(io.RawIOBase):
    """A file that is written by one event loop and read by one thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin empty."""
        self._loop = loop
        self._changed = Condition()
        self._parts: deque[memoryview] = deque()
        self._held_bytes = 0
        self._fault: Exception | None = None
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._has_ended = asyncio.Event()
        self._is_dropped = False  # whether nobody reads the rest
        self.is_whole = False  # whether the body has come to its end

    async def put(self, data: bytes) -> None:
        """Add a chunk and wait while there is too much; called on the loop."""
        if self._is_dropped:
            return
        with self._changed:
            self._parts.append(memoryview(data))
            self._held_bytes += len(data)
            if self._held_bytes > FULL_BYTES:
                self._has_room.clear()
            self._changed.notify()
        await self._has_room.wait()

    def end(self, fault: Exception | None = None) -> None:
        """Say that nothing more comes, or why; called on the loop."""
        with self._changed:
            self.is_whole = True
            self._fault = self._fault or fault
            self._changed.notify()
        self._has_room.set()
        self._has_ended.set()

    def check(self) -> None:
        """Raise what ended the body, also where it had come to its end before: a caller that left; called in the thread."""
        with self._changed:
            if self._fault is not None:
                raise self._fault

    async def drop_rest(self) -> None:
        """Read the rest of the body and forget it, up to its end: a caller may read no answer before; called on the loop."""
        with self._changed:
            self._is_dropped = True
            self._parts.clear()
            self._changed.notify()
        self._has_room.set()
        await self._has_ended.wait()

    def let_go(self) -> None:
        """Raise CallerGoneError in the thread from now on; called on the loop."""
        self.end(CallerGoneError())

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill `buffer` with what there is, at least a byte, or return 0 at the end; called in the thread."""
        target = memoryview(buffer).cast("B")
        with self._changed:
            self._changed.wait_for(lambda: self._parts or self.is_whole or self._is_dropped)
            if self._fault is not None:
                raise self._fault
            if not self._parts:
                return 0
            part = self._parts.popleft()
            taken = min(len(target), len(part))
            target[:taken] = part[:taken]
            if taken < len(part):
                self._parts.appendleft(part[taken:])
            self._held_bytes -= taken
            if self._held_bytes <= FULL_BYTES and not self._has_room.is_set():
                self._loop.call_soon_threadsafe(self._has_room.set)
        return taken
