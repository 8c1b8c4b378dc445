"""A table over HTTP: chunks of the body to blocks of rows, through the one queue that all callers share, to chunks.

    receive -> Inlet -> thread: read blocks, encode -> Batcher -> thread: write -> Outlet -> send

One block is read while the one before runs, so memory holds a few blocks of this table whatever its length. Blocks
are admitted as any request is: rows of other callers share their runs. Before the first answer a full queue is 429, as
for any request; later the table waits for its place. What goes wrong before the first answer is a plain refusal; what
goes wrong later ends the connection without the end of the body, which every client reports, and CSV and JSON Lines
say in a last line why.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec

import orjson

from batchproof.service.errors import ServiceError
from batchproof.service.inference.model import Model
from batchproof.service.protocols.head import RequestHead
from batchproof.service.runtime.metrics import ModelKey
from batchproof.service.tables.block import Reading
from batchproof.service.tables.codecs import writer_of
from batchproof.service.tables.formats import PARQUET, pyarrow
from batchproof.service.tables.sandbox.remote import RemoteReader
from batchproof.service.tables.streaming.body import Bounds, GoneError, Receive, pump, read_blocks
from batchproof.service.tables.streaming.body_file import BodyFile, opened
from batchproof.service.tables.streaming.slots import TableSlot, TableSlots
from batchproof.service.tables.streaming.stream import Send, Stream, TableWorkers
from batchproof.service.tables.streaming.table_request import TableRequest

BLOCK_ROWS = 2048  # half of what one batch of the queue holds: others have their place beside it


class TableEndpoint:
    """One model's tables."""

    def __init__(self, model: Model, workers: TableWorkers, slots: TableSlots, bounds: Bounds, label: str = "") -> None:
        """Read and write in threads of `workers`, two for each slot; answers name the `label` that was asked for."""
        self._workers = workers
        self._slots = slots
        self._bounds = bounds
        self._model = model
        self.key = ModelKey(model.manifest.name, model.manifest.version)
        described = {
            "name": self.key.name,
            "version": self.key.version,
            **({"label": label} if label else {}),
            **model.fingerprint,
        }
        self._model_header = (b"x-model", orjson.dumps(described))

    async def answer(
        self, head: RequestHead, receive: Receive, send: Send, extra_headers: Sequence[tuple[bytes, bytes]]
    ) -> int:
        """Answer one request and return its rows; raises ServiceError while nothing is sent, and GoneError."""
        try:
            request = TableRequest(head, self._bounds.timeout_s)
            slot = self._slots.take()
            try:
                return await self._answer(request, slot, receive, send, extra_headers)
            finally:
                self._slots.leave(slot)
        except ServiceError as error:
            self.count_refusal(error)
            raise
        except GoneError:
            self._workers.tally.cancelled()
            raise

    def count_refusal(self, error: ServiceError) -> None:
        """Count a request that is refused."""
        self._workers.tally.refused(error.code)

    async def _answer(
        self,
        request: TableRequest,
        slot: TableSlot,
        receive: Receive,
        send: Send,
        extra_headers: Sequence[tuple[bytes, bytes]],
    ) -> int:
        if request.source.needs_pyarrow or request.target.needs_pyarrow:
            await self._workers.step(partial(_load, request, self._workers.remote))
        inlet = BodyFile(asyncio.get_running_loop())
        file = opened(inlet, request.encoding, self._bounds.max_bytes)
        reading = Reading(self._model.encoder, request.parameters, BLOCK_ROWS, self._bounds.max_bytes)
        blocks = read_blocks(request.source, inlet, file, reading, self._bounds, self._workers.remote)
        stream = Stream(
            self._workers,
            request,
            blocks,
            inlet,
            writer_of(request.target, self._model, request.parameters, request.request_id),
        )
        start = partial(_start, send, [*request.headers_for(self._model_header), *extra_headers])
        task = asyncio.current_task()
        assert task is not None, "requests are tasks"
        filling = asyncio.create_task(pump(receive, inlet, self._bounds, slot, task.cancel))
        try:
            return await stream.run(start, send)
        except asyncio.CancelledError:
            if filling.done():  # it saw the caller go
                task.uncancel()
                raise GoneError from None
            raise
        finally:
            filling.cancel()
            inlet.end(GoneError())


def _load(request: TableRequest, remote: RemoteReader) -> None:
    """Load what the formats of body and answer need, in a thread: the first time it takes a while; raises 415, 503."""
    if request.source == PARQUET and find_spec("pyarrow"):
        remote.warm()  # it loads the same beside us
    for table_format in (request.source, request.target):
        if table_format.needs_pyarrow:
            pyarrow(table_format)


async def _start(send: Send, headers: Sequence[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": headers})
