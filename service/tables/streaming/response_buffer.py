"""Response buffer: the answer is sent as fast as the caller reads, and spills to disk while the caller still uploads.

Many clients read no byte of an answer before their body is sent. A server that waits for them while they wait for it
would wait for ever, so until the body is whole what they do not read goes to a temporary file; afterwards the rows wait.
Where the disk has no room, the answer ends with 507: `put` raises, and what was accepted before is still sent.
"""

import asyncio
import tempfile
from collections import deque
from collections.abc import Awaitable, Callable
from typing import IO

from batchproof.service import errors

FULL_BYTES = 1 << 20  # held in memory
PART_BYTES = 1 << 18  # read back from the file at once


class ResponseBuffer:
    """Bytes in order, from the event loop that makes them to one connection."""

    def __init__(self, send: Callable[[bytes], Awaitable[None]], may_wait: Callable[[], bool]) -> None:
        """Send with `send`; `may_wait` says whether `put` may wait for the caller to read."""
        self._send = send
        self._may_wait = may_wait
        self._parts: deque[bytes] = deque()
        self._held_bytes = 0
        self._file: IO[bytes] | None = None
        self._kept_bytes = 0  # in the file and not yet sent
        self._read_at = 0
        self._changed = asyncio.Condition()
        self._last = b""  # what follows all else
        self._is_ended = False

    async def put(self, data: bytes) -> None:
        """Accept the next bytes; raises ServiceError (507) where they would have to be kept and the disk has no room."""
        if not data:
            return
        async with self._changed:
            if self._may_wait():
                await self._changed.wait_for(lambda: self._held_bytes + self._kept_bytes < FULL_BYTES)
            if self._kept_bytes or self._held_bytes >= FULL_BYTES:
                self._keep(data)
            else:
                self._parts.append(data)
                self._held_bytes += len(data)
            self._changed.notify_all()

    async def end(self, last: bytes = b"") -> None:
        """Say that no more bytes follow but these few, which need no room on disk."""
        async with self._changed:
            self._last = last
            self._is_ended = True
            self._changed.notify_all()

    async def run(self) -> None:
        """Send until the end."""
        try:
            while data := await self._next():
                await self._send(data)
            if self._last:
                await self._send(self._last)
        finally:
            if self._file is not None:
                self._file.close()

    async def _next(self) -> bytes:
        async with self._changed:
            await self._changed.wait_for(lambda: self._parts or self._kept_bytes or self._is_ended)
            if self._parts:
                data = self._parts.popleft()
                self._held_bytes -= len(data)
            else:
                data = self._read_back() if self._kept_bytes else b""
            self._changed.notify_all()
            return data

    def _keep(self, data: bytes) -> None:
        try:
            if self._file is None:
                # Unbuffered: every byte is on the disk, or refused, when it is written.
                self._file = tempfile.TemporaryFile(prefix="batchproof-", buffering=0)  # noqa: SIM115 - closed by run
            end = self._read_at + self._kept_bytes
            self._file.seek(end)
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise errors.no_disk_space(error) from error
        self._kept_bytes += len(data)

    def _read_back(self) -> bytes:
        assert self._file is not None, "bytes are kept in a file"
        self._file.seek(self._read_at)
        data = self._file.read(min(PART_BYTES, self._kept_bytes))  # beyond them may be half of a refused part
        self._read_at += len(data)
        self._kept_bytes -= len(data)
        if not self._kept_bytes:
            self._file.truncate(0)
            self._read_at = 0
        return data
