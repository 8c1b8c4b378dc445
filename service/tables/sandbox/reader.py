"""Tables, read one after another in a process that may end: the helper and the service go on."""

import io
import os
import socket
from collections.abc import Sequence
from typing import Any, BinaryIO

import msgspec
import pyarrow as pa
from pyarrow import ipc, parquet

from batchproof.service.errors import ServiceError
from batchproof.service.runtime.processes import refusals
from batchproof.service.runtime.processes.confinement import allow_cpu
from batchproof.service.runtime.processes.frames import MESSAGE, Frames, send
from batchproof.service.tables.limits.budget import Unpacking
from batchproof.service.tables.readers.record_batches import READERS, ArrowFaults
from batchproof.service.tables.sandbox.messages import BATCH, END, NAMES, REFUSAL, Names, Request

MOST_REQUEST_BYTES = 64 << 20


class _UnfitColumnsError(Exception):
    """The table has not the columns that are wanted: the service sees that, too, and refuses it by their names."""


def serve(connection: socket.socket) -> None:
    """Read the tables that come over `connection`, until one is refused or nothing more comes.

    A table comes as the descriptor of its file, and a request.
    """
    is_whole = True
    while is_whole:
        message, descriptors, _, _ = socket.recv_fds(connection, len(MESSAGE), 1)
        if not message:
            return
        with os.fdopen(descriptors[0], "rb") as file:
            is_whole = _answer(file, connection)


def _answer(file: BinaryIO, connection: socket.socket) -> bool:
    """Return whether the table was read to its end: what a damaged one left behind in memory is for no other table."""
    _, text = Frames(connection, MOST_REQUEST_BYTES).receive()
    request = msgspec.msgpack.decode(text, type=Request)
    try:
        with ArrowFaults(request.table_format):
            _send_batches(file, connection, request)
    except ServiceError as error:
        send(connection, REFUSAL, refusals.packed(error))
        return False
    except _UnfitColumnsError:
        return False
    send(connection, END, b"")
    return True


def warm_up() -> None:
    """Write and read a table of our own, so that what a first table costs is paid before processes are forked."""
    file = io.BytesIO()
    parquet.write_table(pa.table({"number": [1.5], "text": ["a"]}), file)
    for batch in READERS["parquet"](file, lambda names, _: names, 1, Unpacking(1 << 20)):
        _packed(batch)


def _send_batches(file: BinaryIO, connection: socket.socket, request: Request) -> None:
    def choose(names: Sequence[str], index: frozenset[str]) -> Sequence[str]:
        send(connection, NAMES, msgspec.msgpack.encode(Names(list(names), sorted(index))))
        wanted = names if request.names is None else request.names
        if len(set(names)) < len(names) or not set(wanted) <= set(names):
            raise _UnfitColumnsError
        return wanted

    allow_cpu(request.block_cpu_s)
    read = READERS[request.table_format]
    for batch in read(file, choose, request.block_rows, Unpacking(request.max_bytes)):
        send(connection, BATCH, _packed(batch))
        allow_cpu(request.block_cpu_s)


def _packed(batch: Any) -> memoryview:
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return memoryview(sink.getvalue())
