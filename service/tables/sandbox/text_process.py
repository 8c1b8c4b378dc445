"""A process that reads tables of text and writes their answers, one table after another.

It is one thread: a block is read as its bytes come, and whenever outputs are there, the answer to them is written first.
It is never more than a block ahead of the outputs, so it holds a few blocks, whatever the length of the table.
"""

import io
import pickle
import select
import socket
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from batchproof.service.errors import ServiceError
from batchproof.service.inference.model import Description
from batchproof.service.runtime.processes import refusals
from batchproof.service.runtime.processes.confinement import allow_cpu
from batchproof.service.runtime.processes.frames import MESSAGE, Frames, PeerEndedError, send
from batchproof.service.tables.block import Reading, out_of_memory
from batchproof.service.tables.codecs import body_blocks, writer_of
from batchproof.service.tables.limits.body_reader import opened
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
    TextTable,
    pack_rows,
    unpack_outputs,
)
from batchproof.service.tables.writers.pending_blocks import PendingBlocks

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MOST_BYTES = 1 << 40  # of a frame: the service, which is trusted, sends it
AHEAD = 1  # blocks that are read while another one runs


def warm_up() -> None:
    """Load what is not loaded with this module, so that it is there before processes are forked."""
    import batchproof.service.tables.readers.json_rows  # noqa: F401


def serve(connection: socket.socket) -> None:
    """Answer the tables that come over `connection`, until one is refused or nothing more comes."""
    models: dict[int, Description] = {}
    is_whole = True
    while is_whole:
        message, descriptors, _, _ = socket.recv_fds(connection, len(MESSAGE), 1)
        if not message:
            return
        with socket.socket(fileno=descriptors[0]) as body:
            is_whole = _answer(connection, body, models)


def _answer(connection: socket.socket, body: socket.socket, models: dict[int, Description]) -> bool:
    """Return whether a table was answered to its end."""
    frames = Frames(connection, MOST_BYTES)
    kind, payload = frames.receive()
    while kind == MODEL:
        number, description = pickle.loads(payload)  # noqa: S301 - the service, which started this process, wrote it
        models[number] = description
        kind, payload = frames.receive()
    table: TextTable = pickle.loads(payload)  # noqa: S301
    send(connection, READY)
    return Job(connection, frames, body, models[table.model], table).run()


class Job:
    """One table from its first block to its last."""

    def __init__(
        self, connection: socket.socket, frames: Frames, body: socket.socket, model: Description, table: TextTable
    ) -> None:
        """Answer the table that comes out of `body`; blocks, outputs and answers go over `connection`."""
        self._connection = connection
        self._frames = frames
        self._body = body
        self._model = model
        self._table = table
        self._pending: PendingBlocks | None = None  # until the table is opened

    def run(self) -> bool:
        """Return whether the table was answered to its end: where it is refused, the blocks before still are."""
        try:
            pending = self._pending = self._opened()
            self._read(pending)
        except (ConnectionError, PeerEndedError):
            raise
        except Exception as error:  # noqa: BLE001 - the service logs and counts it, as if it had been raised there
            _tell(self._connection, error, REFUSED, FAILED)
            self._write_until(0)
            return False
        send(self._connection, END)
        self._write_until(0)
        send(self._connection, LAST, pending.end())
        return True

    def _opened(self) -> PendingBlocks:
        table = self._table
        file = opened(Body(self._body, self._connection, self._write), table.encoding, table.max_bytes)
        reading = Reading(self._model.encoder, table.parameters, table.block_rows, table.max_bytes)
        blocks = body_blocks(file, table.source, reading, table.max_json_bytes)
        writer = writer_of(table.target, self._model, table.parameters, table.request_id)
        read = ((block, block.read()) for block in blocks)
        return PendingBlocks(read, writer, table.parameters, table.error_limit)

    def _read(self, pending: PendingBlocks) -> None:
        allow_cpu(self._table.block_cpu_s)
        while rows := pending.read():
            send(self._connection, BLOCK, pack_rows(*rows))
            self._write_until(AHEAD)
            allow_cpu(self._table.block_cpu_s)

    def _write_until(self, waiting: int) -> None:
        while self._pending is not None and len(self._pending) > waiting:
            self._write()

    def _write(self) -> None:
        """Answer the next block, whose outputs come; raises PeerEndedError where the service has given the table up."""
        kind, payload = self._frames.receive()
        if kind != OUTPUTS or self._pending is None:
            raise PeerEndedError
        try:
            text = self._pending.write(unpack_outputs(payload))
        except Exception as error:  # noqa: BLE001 - as above
            self._give_up(error)
        send(self._connection, ANSWER, text)

    def _give_up(self, error: Exception) -> NoReturn:
        _tell(self._connection, error, ANSWER_REFUSED, ANSWER_FAILED)
        raise PeerEndedError


class Body(io.RawIOBase):
    """The body as it comes; while it does not come, what else there is to do is done."""

    def __init__(self, body: socket.socket, connection: socket.socket, do: Callable[[], None]) -> None:
        """Read `body`, and call `do` whenever something has come over `connection`."""
        self._body = body
        self._number = connection.fileno()
        self._do = do
        self._poller = select.poll()
        self._poller.register(connection, select.POLLIN)
        self._poller.register(body, select.POLLIN)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill `buffer` with at least a byte, or return 0 at the end."""
        while self._number in [number for number, _ in self._poller.poll()]:
            self._do()
        return self._body.recv_into(buffer)


def _tell(connection: socket.socket, error: Exception, refused: bytes, failed: bytes) -> None:
    if isinstance(error, MemoryError):
        error = out_of_memory(SHORTER)
    if isinstance(error, ServiceError):
        send(connection, refused, refusals.packed(error))
    else:
        send(connection, failed, "".join(traceback.format_exception(error)).encode(errors="replace"))
