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
from dataclasses import dataclass
from threading import Lock
from typing import Any, BinaryIO

from batchproof.service.errors import ServiceError
from batchproof.service.runtime.logs import event
from batchproof.service.tables.block import Blocks, Reading
from batchproof.service.tables.formats import Format
from batchproof.service.tables.sandbox.frames import (
    BATCH,
    END,
    MESSAGE,
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
MOST_IDLE = 2  # processes that wait for the next table
MOST_TABLES = 100  # that one process reads
ENVIRONMENT = {  # a process that forks must have one thread
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
COMMAND = [sys.executable, "-m", "batchproof.service.tables.sandbox.fork_server"]


class RefusedByReaderError(ServiceError):
    """What a reader's process refused."""


@dataclass
class _Reader:
    """A process that reads tables, one at a time."""

    connection: socket.socket
    status: int  # the pipe that says how it ended
    tables: int = 0  # that it has read to their end
    is_idle: bool = False

    def close(self) -> None:
        """Give it up: the helper ends it."""
        self.connection.close()
        os.close(self.status)


class RemoteReader:
    """The helper of this process; may be used by several threads."""

    def __init__(self, memory_bytes: int) -> None:
        """Let reading a table take up to `memory_bytes`; nothing is started yet."""
        self._memory_bytes = memory_bytes
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._idle: list[_Reader] = []

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
        """Yield the batches; a process that ends before the first one, and not certainly by this table, has a second try."""
        reader = self._idle_reader() or self._new_reader()
        count = 0
        try:
            for batch in self._received(reader, file, table_format, reading, go_on):
                count += 1
                yield batch
        except (PeerEndedError, ConnectionError) as error:
            code = exit_code(reader.status, EXIT_S)
            if count or (reader.tables == 0 and code is not None):
                raise _refusal(table_format, code) from error
        else:
            return
        finally:
            self._give_back(reader)
        reader = self._new_reader()
        try:
            yield from self._received(reader, file, table_format, reading, go_on)
        except (PeerEndedError, ConnectionError) as error:
            raise _refusal(table_format, exit_code(reader.status, EXIT_S)) from error
        finally:
            self._give_back(reader)

    def _received(
        self, reader: "_Reader", file: BinaryIO, table_format: Format, reading: Reading, go_on: Callable[[], object]
    ) -> Iterator[Any]:
        from batchproof.service.tables.readers.arrow import choose

        reader.is_idle = False
        socket.send_fds(reader.connection, [MESSAGE], [file.fileno()])
        send(reader.connection, REQUEST, _request(table_format, reading))
        frames = Frames(reader.connection, self._memory_bytes, SILENT_S)
        names: Sequence[str] = ()
        while True:
            kind, payload = frames.receive(go_on)
            if kind == END:
                reader.tables += 1
                reader.is_idle = True
                return
            if kind == REFUSAL:
                raise _refused(payload)
            if kind == NAMES:
                every, index = _parsed(payload)
                names = choose(reading, every, frozenset(index))
            if kind == BATCH:
                yield _batch_of(payload, names, table_format)

    def _idle_reader(self) -> "_Reader | None":
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _new_reader(self) -> "_Reader":
        """Have a process forked; raises ServiceError (503)."""
        connection, theirs = socket.socketpair()
        status, end = os.pipe()
        reader = _Reader(connection, status)
        try:
            self._hand_over([theirs.fileno(), end])
        except ServiceError:
            reader.close()
            raise
        finally:
            theirs.close()
            os.close(end)
        return reader

    def _give_back(self, reader: "_Reader") -> None:
        """Keep a process that read its table to the end for the next one; the helper ends any other, whatever it is at."""
        with self._lock:
            if reader.is_idle and len(self._idle) < MOST_IDLE and reader.tables < MOST_TABLES and self._control:
                self._idle.append(reader)
                return
        reader.close()

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
                        [*COMMAND, str(self._memory_bytes)],
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
        while self._idle:
            self._idle.pop().close()
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(EXIT_S)
            self._process.kill()
            self._process.wait()
        self._control = self._process = None


def _parsed(payload: bytearray) -> Any:
    """Return the JSON that a process sent; raises PeerEndedError for anything else, which is as good as its end."""
    try:
        return json.loads(payload)
    except ValueError as error:
        raise PeerEndedError from error


def _refused(payload: bytearray) -> RefusedByReaderError:
    fields = _parsed(payload)
    return RefusedByReaderError(int(fields["status"]), str(fields["code"]), str(fields["message"]))


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


def _request(table_format: Format, reading: Reading) -> bytes:
    from batchproof.service.tables.sandbox.reader import Request

    names = None if reading.parameters.answer == "append" else list(reading.encoder.names)
    return Request(table_format.name, names, reading.block_rows, reading.max_bytes, BLOCK_CPU_S).as_json()


def _refusal(table_format: Format, code: int | None) -> ServiceError:
    """Return what a process without a result means: its exit code is None where nobody could say it."""
    from batchproof.service.tables.readers.record_batches import broken_table, out_of_memory

    if code is None:
        return _lost()
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
