"""An answer on its way: sent as fast as the caller reads, and kept on disk where the caller does not read yet.

Many clients read nothing of an answer before their body is sent. Waiting for them while their body waits for us would
never end, so until the body is whole what they do not take goes to a temporary file; afterwards the rows wait instead.
"""

import asyncio
import tempfile
from collections import deque
from collections.abc import Awaitable, Callable
from typing import IO

FULL_BYTES = 1 << 20  # held in memory
PART_BYTES = 1 << 18  # read back from the file at once


class ResponseBuffer:
    """Bytes in order, from the loop that makes them to the one connection that takes them."""

    def __init__(self, send: Callable[[bytes], Awaitable[None]], may_wait: Callable[[], bool]) -> None:
        """Send with `send`; `may_wait` says whether the maker may wait for it."""
        self._send = send
        self._may_wait = may_wait
        self._parts: deque[bytes] = deque()
        self._held_bytes = 0
        self._file: IO[bytes] | None = None
        self._kept_bytes = 0  # in the file and not yet sent
        self._read_at = 0
        self._changed = asyncio.Condition()
        self._is_ended = False

    async def put(self, data: bytes) -> None:
        """Take the next bytes."""
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

    async def end(self) -> None:
        """Say that nothing more comes."""
        async with self._changed:
            self._is_ended = True
            self._changed.notify_all()

    async def run(self) -> None:
        """Send until the end."""
        try:
            while data := await self._next():
                await self._send(data)
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
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="batchproof-")  # noqa: SIM115 - closed where the sending ends
        self._file.seek(0, 2)
        self._file.write(data)
        self._kept_bytes += len(data)

    def _read_back(self) -> bytes:
        assert self._file is not None, "bytes are kept in a file"
        self._file.seek(self._read_at)
        data = self._file.read(PART_BYTES)
        self._read_at += len(data)
        self._kept_bytes -= len(data)
        if not self._kept_bytes:
            self._file.truncate(0)
            self._read_at = 0
        return data
