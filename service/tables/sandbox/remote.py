"""The service's side of reading a table in another process, whose end is a refusal."""

import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

import msgspec

from batchproof.service.runtime.processes import process_pool, refusals
from batchproof.service.runtime.processes.frames import MESSAGE, Frames, PeerEndedError, send
from batchproof.service.runtime.processes.process_pool import Process, ProcessPool, ending
from batchproof.service.tables.block import Blocks, Reading
from batchproof.service.tables.formats import Format
from batchproof.service.tables.sandbox.ends import BLOCK_CPU_S, refusal_of
from batchproof.service.tables.sandbox.messages import BATCH, END, NAMES, REFUSAL, REQUEST, Names, Request

MODULE = "batchproof.service.tables.sandbox.reader"  # of the other side


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
                raise refusals.unpacked(payload)
            if kind == NAMES:
                found = _names(payload)
                names = choose(reading, found.columns, frozenset(found.index))
            elif kind == BATCH:
                yield _batch_of(payload, names, table_format)
            else:
                raise PeerEndedError


def _names(payload: bytes) -> Names:
    """Return the names of a table's columns; raises PeerEndedError for anything else, which is as good as its end."""
    try:
        return msgspec.msgpack.decode(payload, type=Names)
    except msgspec.DecodeError as error:
        raise PeerEndedError from error


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
    request = Request(table_format.name, names, reading.block_rows, reading.max_bytes, BLOCK_CPU_S)
    return msgspec.msgpack.encode(request)
