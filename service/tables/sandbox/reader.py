"""One table, read in a process that was forked for it. Whatever ends this process, the helper and the service go on."""

import contextlib
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
from typing import Any, NoReturn

import pyarrow as pa
from pyarrow import ipc

from batchproof.service import child_process
from batchproof.service.errors import ServiceError
from batchproof.service.tables.limits.budget import Unpacking
from batchproof.service.tables.readers.record_batches import READERS, ArrowFaults
from batchproof.service.tables.sandbox.frames import BATCH, END, NAMES, REFUSAL, Frames, send

MOST_REQUEST_BYTES = 64 << 20


@dataclass(frozen=True)
class Request:
    """What to read of which kind of table, and what reading it may take."""

    table_format: str
    names: Sequence[str] | None  # of the columns to read; None: all
    block_rows: int
    max_bytes: int | None
    memory_bytes: int  # beyond what the helper has
    block_cpu_s: int  # processor time from one block to the next

    def as_json(self) -> bytes:
        """Return the request as it goes over the socket."""
        return json.dumps(asdict(self)).encode()


class _UnfitColumnsError(Exception):
    """The table has not the columns that are wanted: the service sees that, too, and refuses it by their names."""


def serve(file: int, connection: int) -> NoReturn:
    """Read the table behind the descriptor `file` as the request on `connection` asks, and end this process."""
    status = 1
    try:
        _answer(file, socket.socket(fileno=connection))
        status = 0
    except BrokenPipeError:  # the caller left
        status = 0
    finally:
        os._exit(status)


def _answer(file: int, connection: socket.socket) -> None:
    child_process.die_with_parent()
    _, text = Frames(connection, MOST_REQUEST_BYTES).receive()
    request = Request(**json.loads(text))
    confine(request.memory_bytes)
    try:
        with ArrowFaults(request.table_format):
            _send_batches(file, connection, request)
    except ServiceError as error:
        fields = {"status": error.status, "code": error.code, "message": error.message}
        send(connection, REFUSAL, json.dumps(fields).encode())
        return
    except _UnfitColumnsError:
        return
    send(connection, END, b"")


def confine(memory_bytes: int) -> None:
    """Bind this process's memory, leave no core file, and let it be the first to go where memory ends for all."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    allowed = child_process.private_bytes() + memory_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (allowed if hard < 0 else min(allowed, hard), hard))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _send_batches(file: int, connection: socket.socket, request: Request) -> None:
    def choose(names: Sequence[str], index: frozenset[str]) -> Sequence[str]:
        send(connection, NAMES, json.dumps([list(names), sorted(index)]).encode())
        wanted = names if request.names is None else request.names
        if len(set(names)) < len(names) or not set(wanted) <= set(names):
            raise _UnfitColumnsError
        return wanted

    _allow_cpu(request.block_cpu_s)
    with open(file, "rb") as table:
        read = READERS[request.table_format]
        for batch in read(table, choose, request.block_rows, Unpacking(request.max_bytes)):
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
