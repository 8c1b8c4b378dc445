"""The service's side of the helper: tables of typed columns, read by a process whose end is a refusal.

The helper starts with the first table. Where it was ended from outside, the next table starts another one.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any, BinaryIO

from batchproof.service.errors import ServiceError
from batchproof.service.logs import event
from batchproof.service.tables.block import Blocks, Reading
from batchproof.service.tables.formats import Format
from batchproof.service.tables.sandbox.frames import (
    BATCH,
    END,
    NAMES,
    REFUSAL,
    REQUEST,
    Frames,
    PeerEndedError,
    exit_code,
    send,
)

BLOCK_CPU_S = 20  # processor time from one block of a table to the next
SILENT_S = 60.0  # without a byte from a reader, however busy the machine is
EXIT_S = 5.0  # for the news how a process ended, and for the helper to end
MESSAGE = b"t"
ENVIRONMENT = {  # a process that forks must have one thread
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
COMMAND = [sys.executable, "-m", "batchproof.service.tables.sandbox.fork_server"]


class RefusedByReaderError(ServiceError):
    """What a reader's process refused."""


class _LostError(Exception):
    """The helper ended, whatever the table was."""


class RemoteReader:
    """The helper of this process; may be used by several threads."""

    def __init__(self, memory_bytes: int) -> None:
        """Let reading a table take up to `memory_bytes`; nothing is started yet."""
        self._memory_bytes = memory_bytes
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def warm(self) -> None:
        """Start the helper where there is none, and do not wait for it; raises ServiceError (503)."""
        with self._lock:
            self._started()

    def close(self) -> None:
        """End the helper, and with it every process of a table."""
        with self._lock:
            self._end()

    def blocks(self, file: BinaryIO, table_format: Format, reading: Reading, go_on: Callable[[], object]) -> Blocks:
        """Read a table of typed columns whose file has a descriptor; raises ServiceError, and what `go_on` raises.

        `go_on` is asked now and then while a process is at work: it raises where nobody waits for the table any more.
        """
        from batchproof.service.tables.readers.arrow import blocks_from

        return blocks_from(self._batches(file, table_format, reading, go_on), reading)

    def _batches(
        self, file: BinaryIO, table_format: Format, reading: Reading, go_on: Callable[[], object]
    ) -> Iterator[Any]:
        for attempt in range(2):
            count = 0
            try:
                for batch in self._once(file, table_format, reading, go_on):
                    count += 1
                    yield batch
            except _LostError as error:
                if attempt or count:
                    raise _lost() from error
            else:
                return

    def _once(
        self, file: BinaryIO, table_format: Format, reading: Reading, go_on: Callable[[], object]
    ) -> Iterator[Any]:
        with self._begun(file) as (connection, status):
            try:
                yield from self._received(connection, table_format, reading, go_on)
            except (PeerEndedError, BrokenPipeError) as error:
                raise _refusal(table_format, exit_code(status, EXIT_S)) from error

    def _received(
        self, connection: socket.socket, table_format: Format, reading: Reading, go_on: Callable[[], object]
    ) -> Iterator[Any]:
        from batchproof.service.tables.readers.arrow import choose

        send(connection, REQUEST, self._request(table_format, reading))
        frames = Frames(connection, self._memory_bytes, SILENT_S)
        names: Sequence[str] = ()
        while True:
            kind, payload = frames.receive(go_on)
            if kind == END:
                return
            if kind == REFUSAL:
                raise RefusedByReaderError(**json.loads(payload))
            if kind == NAMES:
                every, index = json.loads(payload)
                names = choose(reading, every, frozenset(index))
            if kind == BATCH:
                yield _batch_of(payload, names, table_format)

    def _request(self, table_format: Format, reading: Reading) -> bytes:
        from batchproof.service.tables.sandbox.reader import Request

        names = None if reading.parameters.answer == "append" else list(reading.encoder.names)
        return Request(
            table_format.name, names, reading.block_rows, reading.max_bytes, self._memory_bytes, BLOCK_CPU_S
        ).as_json()

    @contextmanager
    def _begun(self, file: BinaryIO) -> Iterator[tuple[socket.socket, int]]:
        """Begin a process for a table: yields the socket to it and the pipe that says how it ended; raises 503.

        Once both are closed the helper ends the process, whatever it is at.
        """
        connection, theirs = socket.socketpair()
        status, end = os.pipe()
        try:
            try:
                self._hand_over([file.fileno(), theirs.fileno(), end])
            finally:
                theirs.close()
                os.close(end)
            yield connection, status
        finally:
            connection.close()
            os.close(status)

    def _hand_over(self, descriptors: Sequence[int]) -> None:
        with self._lock:
            for _ in range(2):
                try:
                    socket.send_fds(self._started(), [MESSAGE], descriptors)
                except OSError:  # it was ended since
                    self._end()
                else:
                    return
        raise _lost()

    def _started(self) -> socket.socket:
        """Return the socket of the helper, which runs."""
        if self._process is not None and self._process.poll() is not None:
            self._end()
        if self._control is None:
            control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            control.settimeout(EXIT_S)
            try:
                with theirs:
                    self._process = subprocess.Popen(  # noqa: S603 - our own module
                        COMMAND,
                        stdin=theirs.fileno(),
                        stdout=subprocess.DEVNULL,
                        start_new_session=True,  # an interrupt at the terminal is for the service, which ends it
                        env={**os.environ, **ENVIRONMENT},
                    )
            except OSError as error:
                control.close()
                raise _lost() from error
            self._control = control
        return self._control

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(EXIT_S)
            self._process.kill()
            self._process.wait()
        self._control = self._process = None


def _batch_of(payload: bytearray, names: Sequence[str], table_format: Format) -> Any:
    """Return a block's record batch, of the columns `names`. Its sender has read a stranger's bytes: it is checked again."""
    from pyarrow import ipc, py_buffer

    from batchproof.service.tables.readers.record_batches import ArrowFaults, check_values

    with ArrowFaults(table_format.name), ipc.open_stream(py_buffer(payload)) as stream:
        batch = stream.read_next_batch()
        check_values(batch, batch.schema)
    if batch.schema.names != list(names):
        raise PeerEndedError
    return batch


def _refusal(table_format: Format, code: int | None) -> Exception:
    """Return what a process without a result means: its exit code is None where nobody could say it."""
    from batchproof.service.tables.readers.record_batches import broken_table, out_of_memory

    if code is None:
        return _LostError()
    how = f"with exit code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
    event("table_reader_ended", 30, format=table_format.name, reason=f"ended {how}")
    if code == -signal.SIGKILL:  # by the system: there was no memory left
        return out_of_memory()
    if code == -signal.SIGXCPU:
        how = f"after {BLOCK_CPU_S} s of processor time for one block of rows"
    return broken_table(table_format.name, f"the process that read it was ended {how}")


def _lost() -> ServiceError:
    return ServiceError(
        503, "reader_lost", "The process that reads such tables could not be started or was ended; try again.",
        retry_after_s=1,
    )  # fmt: skip
