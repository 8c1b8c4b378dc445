"""The service's side of reading a table in another process, whose end is a refusal."""

import json
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

from batchproof.service.errors import ServiceError
from batchproof.service.runtime.processes import process_pool
from batchproof.service.runtime.processes.frames import MESSAGE, Frames, PeerEndedError, send
from batchproof.service.runtime.processes.process_pool import Process, ProcessPool, ending
from batchproof.service.tables.block import Blocks, Reading
from batchproof.service.tables.formats import Format
from batchproof.service.tables.sandbox.ends import BLOCK_CPU_S, refusal_of
from batchproof.service.tables.sandbox.messages import BATCH, END, NAMES, REFUSAL, REQUEST, Request

CODE = re.compile("[a-z0-9_]{1,64}")  # of a refusal: a label in metrics
MODULE = "batchproof.service.tables.sandbox.reader"  # of the other side


class RefusedByReaderError(ServiceError):
    """What a reader's process refused."""


class RemoteReader:
    """The processes that read tables for this one; may be used by several threads."""

    def __init__(self, memory_bytes: int) -> None:
        """Let reading a table take up to `memory_bytes`; nothing is started yet."""
        self.pool = ProcessPool(MODULE, memory_bytes)

    def warm(self) -> None:
        """Start the helper where there is none, and do not wait for it; raises ServiceError (503)."""
        self.pool.warm()

    def close(self) -> None:
        """End the helper, and with it every process of a table."""
        self.pool.close()

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
        process = self.pool.take()
        count = 0
        try:
            for batch in self._received(process, file, table_format, reading, go_on):
                count += 1
                yield batch
        except (PeerEndedError, ConnectionError) as error:
            from batchproof.service.tables.readers.record_batches import SMALLER

            code = ending(process)
            if count or (process.jobs == 0 and code is not None):
                raise refusal_of(table_format, code, SMALLER) from error
        else:
            return
        finally:
            self.pool.give_back(process)
        process = self.pool.new()
        try:
            yield from self._received(process, file, table_format, reading, go_on)
        except (PeerEndedError, ConnectionError) as error:
            raise refusal_of(table_format, ending(process), SMALLER) from error
        finally:
            self.pool.give_back(process)

    def _received(
        self, process: Process, file: BinaryIO, table_format: Format, reading: Reading, go_on: Callable[[], object]
    ) -> Iterator[Any]:
        from batchproof.service.tables.readers.arrow import choose

        socket.send_fds(process.connection, [MESSAGE], [file.fileno()])
        send(process.connection, REQUEST, _request(table_format, reading), go_on=go_on)
        frames = Frames(process.connection, self.pool.memory_bytes, process_pool.SILENT_S)
        names: Sequence[str] = ()
        while True:
            kind, payload = frames.receive(go_on)
            if kind == END:
                process.finished()
                return
            if kind == REFUSAL:
                raise _refused(payload)
            if kind == NAMES:
                every, index = _names(payload)
                names = choose(reading, every, frozenset(index))
            elif kind == BATCH:
                yield _batch_of(payload, names, table_format)
            else:
                raise PeerEndedError


def _parsed(payload: bytes) -> Any:
    """Return the JSON that a process sent; raises PeerEndedError for anything else, which is as good as its end."""
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise PeerEndedError from error


def _names(payload: bytes) -> tuple[list[str], list[str]]:
    """Return the names of a table's columns, and those of its index; raises PeerEndedError."""
    found = _parsed(payload)
    if type(found) is not list or len(found) != 2:
        raise PeerEndedError
    every, index = found
    for names in found:
        if type(names) is not list or not all(type(name) is str for name in names):
            raise PeerEndedError
    return every, index


def _refused(payload: bytes) -> RefusedByReaderError:
    """Return a refusal whose parts are within their bounds; raises PeerEndedError."""
    fields = _parsed(payload)
    parts: list[Any] = [fields.get(name) for name in ("status", "code", "message")] if type(fields) is dict else []
    if [type(part) for part in parts] != [int, str, str]:
        raise PeerEndedError
    status, code, message = parts
    if not 400 <= status <= 599 or not CODE.fullmatch(code):
        raise PeerEndedError
    return RefusedByReaderError(status, code, message)


def _batch_of(payload: bytes, names: Sequence[str], table_format: Format) -> Any:
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
    names = None if reading.parameters.answer == "append" else list(reading.encoder.names)
    return Request(table_format.name, names, reading.block_rows, reading.max_bytes, BLOCK_CPU_S).as_json()
