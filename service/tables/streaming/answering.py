"""One table over HTTP, from the request to the task that answers it. Loaded with the first table."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import NamedTuple

from batchproof.service.errors import CallerGoneError
from batchproof.service.inference.model import Model
from batchproof.service.runtime.system import can_confine
from batchproof.service.tables.block import Reading
from batchproof.service.tables.codecs import writer_of
from batchproof.service.tables.formats import PARQUET, pyarrow
from batchproof.service.tables.limits.body_reader import opened
from batchproof.service.tables.sandbox.ends import BLOCK_CPU_S
from batchproof.service.tables.sandbox.remote import RemoteReader
from batchproof.service.tables.sandbox.text_messages import TextTable
from batchproof.service.tables.sandbox.text_remote import KnownModel, RemoteTable
from batchproof.service.tables.streaming.body.body_file import BodyFile
from batchproof.service.tables.streaming.body.body_socket import BodySocket
from batchproof.service.tables.streaming.body.pump import pump
from batchproof.service.tables.streaming.interface import Bounds, Inlet, Receive, Send, Table, TableWorkers
from batchproof.service.tables.streaming.slots import TableSlot
from batchproof.service.tables.streaming.stream import Stream
from batchproof.service.tables.streaming.table_request import TableRequest
from batchproof.service.tables.streaming.thread_table import ThreadTable, read_blocks
from batchproof.service.tables.writers.pending_blocks import PendingBlocks

BLOCK_ROWS = 2048  # half of what one batch of the queue holds: others have their place beside it


class Answering:
    """What answers the tables of one model."""

    def __init__(self, model: Model, workers: TableWorkers, bounds: Bounds) -> None:
        """Answer with `model`."""
        self._model = model
        self._known = KnownModel(model)
        self._workers = workers
        self._bounds = bounds

    async def answer(
        self,
        request: TableRequest,
        slot: TableSlot,
        receive: Receive,
        send: Send,
        headers: Sequence[tuple[bytes, bytes]],
    ) -> int:
        """Answer a request, with these headers, and return its rows; raises ServiceError while nothing is sent, and CallerGoneError."""
        remote = self._workers.remote()
        if request.source.needs_pyarrow or request.target.needs_pyarrow:
            await self._workers.step(partial(_load, request, remote))
        is_apart = can_confine() and not request.is_short and not request.source.needs_pyarrow
        begin, inlet, table = self._apart(request) if is_apart else self._in_threads(request, remote)
        stream = Stream(self._workers, request, table, inlet)
        task = asyncio.current_task()
        assert task is not None, "requests are tasks"
        filling = asyncio.create_task(pump(receive, inlet, self._bounds, slot, task.cancel))
        try:
            await begin()
            return await stream.run(partial(_start, send, headers), send)
        except asyncio.CancelledError:
            if filling.done():  # it saw the caller go
                task.uncancel()
                raise CallerGoneError from None
            raise
        finally:
            filling.cancel()
            filling.add_done_callback(lambda _: inlet.let_go())  # it is in use until then
            table.close()

    def _in_threads(self, request: TableRequest, remote: RemoteReader) -> "_Parts":
        """Read and write in threads of this process."""
        bounds, inlet = self._bounds, BodyFile(asyncio.get_running_loop())
        file = opened(inlet, request.encoding, bounds.max_bytes)
        reading = Reading(self._model.encoder, request.parameters, BLOCK_ROWS, bounds.max_bytes)
        blocks = read_blocks(request.source, inlet, file, reading, bounds, remote)
        writer = writer_of(request.target, self._model, request.parameters, request.request_id)
        pending = PendingBlocks(blocks, writer, request.parameters, self._workers.error_limit)
        return _Parts(_at_once, inlet, ThreadTable(self._workers, pending))

    def _apart(self, request: TableRequest) -> "_Parts":
        """Read and write in another process: threads would keep other callers from the interpreter."""
        bounds, inlet = self._bounds, BodySocket()
        text = TextTable(
            self._known.number,
            request.source,
            request.target,
            request.parameters,
            request.request_id,
            request.encoding,
            BLOCK_ROWS,
            bounds.max_bytes,
            bounds.limits.max_body_bytes,
            self._workers.error_limit,
            BLOCK_CPU_S,
        )
        table = RemoteTable(self._workers.text_processes(), self._known, text, inlet.theirs)
        inlet.on_fault = table.refuse
        return _Parts(partial(self._workers.step, table.begin), inlet, table)


class _Parts(NamedTuple):
    """What a table is answered with: how it begins, where its body goes, and what reads and writes it."""

    begin: Callable[[], Awaitable[object]]
    inlet: Inlet
    table: Table


async def _at_once() -> None:
    """Begin without more ado."""


def _load(request: TableRequest, remote: RemoteReader) -> None:
    """Load what the formats of body and answer need, in a thread: the first time it takes a while; raises 415, 503."""
    if request.source == PARQUET and find_spec("pyarrow"):
        remote.warm()  # it loads the same beside us
    for table_format in (request.source, request.target):
        if table_format.needs_pyarrow:
            pyarrow(table_format)


async def _start(send: Send, headers: Sequence[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": headers})
