"""Tables, read one after another in a process that may end: the helper and the service go on."""

import contextlib
import io
import json
import math
import os
import resource
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import pyarrow as pa
from pyarrow import ipc, parquet

from batchproof.service.errors import ServiceError
from batchproof.service.runtime import child_process
from batchproof.service.tables.limits.budget import Unpacking
from batchproof.service.tables.readers.record_batches import READERS, ArrowFaults
from batchproof.service.tables.sandbox.frames import BATCH, END, MESSAGE, NAMES, REFUSAL, Frames, PeerEndedError, send

MOST_REQUEST_BYTES = 64 << 20


@dataclass(frozen=True)
class Request:
    """What to read of which kind of table, and what reading it may take."""

    table_format: str
    names: Sequence[str] | None  # of the columns to read; None: all
    block_rows: int
    max_bytes: int | None
    block_cpu_s: int  # processor time from one block to the next

    def as_json(self) -> bytes:
        """Return the request as it goes over the socket."""
        return json.dumps(asdict(self)).encode()


class _UnfitColumnsError(Exception):
    """The table has not the columns that are wanted: the service sees that, too, and refuses it by their names."""


def serve(connection: int, memory_bytes: int) -> NoReturn:
    """Read the tables that come over `connection`, until one is refused or nothing more comes, and end this process.

    A table comes as the descriptor of its file, and a request.
    """
    status = 1
    try:
        prepare(memory_bytes)
        _answer_all(socket.socket(fileno=connection))
        status = 0
    except (ConnectionError, PeerEndedError):  # the caller left
        status = 0
    finally:
        os._exit(status)


def _answer_all(connection: socket.socket) -> None:
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
    request = Request(**json.loads(text))
    try:
        with ArrowFaults(request.table_format):
            _send_batches(file, connection, request)
    except ServiceError as error:
        fields = {"status": error.status, "code": error.code, "message": error.message}
        send(connection, REFUSAL, json.dumps(fields).encode())
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


def prepare(memory_bytes: int) -> None:
    """Bind this process's life to the helper's and its memory to so many bytes more than it has; leave no core file.

    Where memory ends for all, it is the first to go.
    """
    child_process.die_with_parent()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    allowed = child_process.private_bytes() + memory_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (allowed if hard < 0 else min(allowed, hard), hard))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _send_batches(file: BinaryIO, connection: socket.socket, request: Request) -> None:
    def choose(names: Sequence[str], index: frozenset[str]) -> Sequence[str]:
        send(connection, NAMES, json.dumps([list(names), sorted(index)]).encode())
        wanted = names if request.names is None else request.names
        if len(set(names)) < len(names) or not set(wanted) <= set(names):
            raise _UnfitColumnsError
        return wanted

    _allow_cpu(request.block_cpu_s)
    read = READERS[request.table_format]
    for batch in read(file, choose, request.block_rows, Unpacking(request.max_bytes)):
        send(connection, BATCH, _packed(batch))
        _allow_cpu(request.block_cpu_s)


def _packed(batch: Any) -> memoryview:
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return memoryview(sink.getvalue())


def _allow_cpu(seconds: int) -> None:
    """Let this process be ended (SIGXCPU) once it has used so much processor time more."""
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    allowed = math.ceil(time.process_time()) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (allowed if hard < 0 else min(allowed, hard), hard))
