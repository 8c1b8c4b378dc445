"""The service's side of a table of text that a process reads and writes: its rows come as arrays, its answer as bytes.

What a worker does for such a table is to copy bytes: a thread that parsed them would have the interpreter for itself for
milliseconds, again and again, while other callers wait.
"""

import asyncio
import contextlib
import itertools
import pickle
import socket
import threading
from functools import cached_property
from typing import TypeVar

from batchproof.service.features.arrays import ArrayBounds, Outputs
from batchproof.service.inference.model import Described, Description
from batchproof.service.runtime.processes import process_pool, refusals
from batchproof.service.runtime.processes.frames import HEAD, MESSAGE, PART_BYTES, Frames, PeerEndedError, send
from batchproof.service.runtime.processes.process_pool import Process, ProcessPool, ending
from batchproof.service.tables.block import Rows
from batchproof.service.tables.sandbox.ends import refusal_of
from batchproof.service.tables.sandbox.text_messages import (
    ANSWER,
    ANSWER_FAILED,
    ANSWER_REFUSED,
    BLOCK,
    END,
    FAILED,
    LAST,
    MODEL,
    OUTPUTS,
    READY,
    REFUSED,
    SHORTER,
    TABLE,
    TextTable,
    pack_outputs,
    unpack_rows,
)

MODULE = "batchproof.service.tables.sandbox.text_process"  # of the other side
MOST_MODELS = 64  # that one process knows
MOST_WAITING = 4  # frames that a process is ahead of the service, at most
_numbers = itertools.count(1)
Item = TypeVar("Item")


class TableFailedError(Exception):
    """Reading or writing a table failed as nothing foresees; the text is the traceback of the process."""


class KnownModel:
    """A model as processes know it, and the bounds of what they say of its rows."""

    def __init__(self, model: Described) -> None:
        """Describe `model`."""
        self.number = next(_numbers)
        self.bounds = ArrayBounds.of(model.manifest.signature)
        self._model = model

    @cached_property
    def packed(self) -> bytes:
        """Return what a process needs to know."""
        return pickle.dumps((self.number, Description.of(self._model)))


class RemoteTable:
    """One table of text. All methods but `begin` are called on the event loop."""

    def __init__(self, pool: ProcessPool, model: KnownModel, table: TextTable, body: socket.socket) -> None:
        """Have a process of `pool` answer `table`, which comes out of `body`; nothing is started yet."""
        self._pool = pool
        self._model = model
        self._table = table
        self._body = body
        self._process: Process | None = None
        self._lock = threading.Lock()
        self._is_closed = False
        self._blocks: asyncio.Queue[Rows | Exception | None] = asyncio.Queue()
        self._answers: asyncio.Queue[bytes | Exception] = asyncio.Queue()
        self._is_refused = False
        self._unanswered = 0
        self._receiving: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Let a process begin; called in a thread, once. Raises ServiceError (503)."""
        with self._body:
            self._begin()

    def _begin(self) -> None:
        process = self._pool.take()
        try:
            self._introduce(process)
        except (PeerEndedError, ConnectionError):  # it was ended while it waited: no byte of this table was read
            self._pool.give_back(process)
            process = self._pool.new()
            try:
                self._introduce(process)
            except (PeerEndedError, ConnectionError) as error:
                self._pool.give_back(process)
                raise process_pool.lost() from error
        with self._lock:
            self._process = process
            if self._is_closed:  # its caller has left
                self._pool.give_back(process)

    def _introduce(self, process: Process) -> None:
        connection = process.connection
        connection.settimeout(process_pool.SILENT_S)
        socket.send_fds(connection, [MESSAGE], [self._body.fileno()])
        if self._model.number not in process.known:
            send(connection, MODEL, self._model.packed)
            process.known.add(self._model.number)
        send(connection, TABLE, pickle.dumps(self._table))
        kind, _ = Frames(connection, 0, process_pool.SILENT_S).receive()
        if kind != READY:
            raise PeerEndedError
        connection.setblocking(False)

    async def next(self) -> Rows | None:
        """Return the next block, None behind the last one; raises ServiceError, and TableFailedError."""
        if self._receiving is None:
            self._receiving = asyncio.create_task(self._receive())
        return _good(await self._blocks.get())

    async def write(self, outputs: Outputs) -> bytes:
        """Return the text of the block whose turn it is; raises as `next` does."""
        self._unanswered += 1
        data = pack_outputs(outputs)
        with contextlib.suppress(ConnectionError):  # then the process has ended, which `_receive` notes
            await asyncio.get_running_loop().sock_sendall(self._connection, HEAD.pack(OUTPUTS, len(data)) + data)
        answer = await self.end()
        self._unanswered -= 1
        return answer

    async def end(self) -> bytes:
        """Return what ends the text; raises as `next` does."""
        try:
            return _good(await asyncio.wait_for(self._answers.get(), process_pool.SILENT_S))
        except TimeoutError:
            raise process_pool.lost() from None

    def refuse(self, error: Exception) -> None:
        """Let `next` raise this: the body does not go on."""
        self._blocks.put_nowait(error)

    def close(self) -> None:
        """Give the process up, or back where the table was answered to its end."""
        if self._receiving is None:
            self._give_back()
        else:
            self._receiving.add_done_callback(lambda _: self._give_back())  # its socket is in use until then
            self._receiving.cancel()

    def _give_back(self) -> None:
        with self._lock:
            self._is_closed = True
            if self._process is not None:
                self._pool.give_back(self._process)

    @property
    def _connection(self) -> socket.socket:
        assert self._process is not None, "a table begins first"
        return self._process.connection

    async def _receive(self) -> None:
        try:
            while self._accept(*await self._frame()):
                pass
        except (PeerEndedError, ConnectionError):
            if not self._is_refused or self._unanswered:
                await self._note_end()

    async def _note_end(self) -> None:
        """Let whoever waits know what the end of the process means."""
        assert self._process is not None, "it has said something"
        code = await asyncio.to_thread(ending, self._process)
        refusal = refusal_of(self._table.source, code, SHORTER)
        self._blocks.put_nowait(refusal)
        self._answers.put_nowait(refusal)

    def _accept(self, kind: bytes, payload: bytes) -> bool:
        """Take a frame; returns whether more may come. Raises PeerEndedError for one that no process sends."""
        if self._blocks.qsize() + self._answers.qsize() > MOST_WAITING:
            raise PeerEndedError
        if kind == BLOCK:
            self._blocks.put_nowait(unpack_rows(payload, self._model.bounds, self._table.block_rows))
        elif kind == END:
            self._blocks.put_nowait(None)
        elif kind in (REFUSED, FAILED):
            self._is_refused = True
            self._blocks.put_nowait(_fault(payload, is_foreseen=kind == REFUSED))
        elif kind in (ANSWER_REFUSED, ANSWER_FAILED):
            self._answers.put_nowait(_fault(payload, is_foreseen=kind == ANSWER_REFUSED))
            return False
        elif kind == ANSWER:
            self._answers.put_nowait(payload)
        elif kind == LAST:
            assert self._process is not None, "it has said something"
            if len(self._process.known) < MOST_MODELS:
                self._process.finished()
            self._answers.put_nowait(payload)
            return False
        else:
            raise PeerEndedError
        return True

    async def _frame(self) -> tuple[bytes, bytes]:
        kind, length = HEAD.unpack(await self._exactly(HEAD.size))
        if length > self._pool.memory_bytes:
            raise PeerEndedError
        return kind, await self._exactly(length)

    async def _exactly(self, length: int) -> bytes:
        loop, parts, left = asyncio.get_running_loop(), list[bytes](), length
        while left:
            part = await loop.sock_recv(self._connection, min(left, PART_BYTES))
            if not part:
                raise PeerEndedError
            parts.append(part)
            left -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _good(item: Item | Exception) -> Item:
    """Return what a queue held; raises it where it is an exception."""
    if isinstance(item, Exception):
        raise item
    return item


def _fault(payload: bytes, *, is_foreseen: bool) -> Exception:
    """Return what a process met; raises PeerEndedError for a refusal out of bounds."""
    if is_foreseen:
        return refusals.unpacked(payload)
    return TableFailedError(payload.decode(errors="replace"))
