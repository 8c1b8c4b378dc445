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

import orjson

from batchproof.service.errors import ServiceError
from batchproof.service.inference.model import Model
from batchproof.service.protocols.interface import Headers
from batchproof.service.tables.block import Reading
from batchproof.service.tables.codecs import writer_of
from batchproof.service.tables.formats import pyarrow
from batchproof.service.tables.streaming.body import Bounds, GoneError, Receive, pump, read_blocks
from batchproof.service.tables.streaming.body_file import BodyFile, opened
from batchproof.service.tables.streaming.stream import Send, Stream, TableWorkers
from batchproof.service.tables.streaming.table_request import TableRequest

BLOCK_ROWS = 2048  # half of what one batch of the queue holds: others have their place beside it


class TableSlots:
    """How many tables one process answers at a time, all models together."""

    def __init__(self, most: int) -> None:
        """Take up to `most` tables."""
        self._most = most
        self._taken = 0

    def __enter__(self) -> None:
        """Take a place; raises 429 where there is none."""
        if self._taken >= self._most:
            raise ServiceError(
                429, "overloaded", f"{self._taken} tables are being answered, which is the most; try again.",
                retry_after_s=1,
            )  # fmt: skip
        self._taken += 1

    def __exit__(self, *_: object) -> None:
        """Give it back."""
        self._taken -= 1


class TableRoute:
    """One model's tables."""

    def __init__(self, model: Model, shop: TableWorkers, places: TableSlots, bounds: Bounds) -> None:
        """Read and write in threads of the shop, two for each place."""
        self._shop = shop
        self._places = places
        self._bounds = bounds
        self.update_model(model)

    def update_model(self, model: Model) -> None:
        """Answer from now on with what `model` says of itself: its fingerprint may have changed, its bits have not."""
        self._model = model
        described = {"name": model.manifest.name, "version": model.manifest.version, **model.fingerprint}
        self._model_header = (b"x-model", orjson.dumps(described))

    async def answer(
        self, query: bytes, headers: Headers, receive: Receive, send: Send, further: Sequence[tuple[bytes, bytes]]
    ) -> int:
        """Answer one request and return its rows; raises ServiceError while nothing is sent, and GoneError."""
        try:
            call = TableRequest(query, headers, self._bounds.timeout_s)
            with self._places:
                return await self._answer(call, receive, send, further)
        except ServiceError as error:
            self._shop.tally.refused(error.code)
            raise
        except GoneError:
            self._shop.tally.cancelled()
            raise

    async def _answer(
        self, call: TableRequest, receive: Receive, send: Send, further: Sequence[tuple[bytes, bytes]]
    ) -> int:
        for found in (call.source, call.target):
            if found.needs_pyarrow:
                pyarrow(found)
        inlet = BodyFile(asyncio.get_running_loop())
        file = opened(inlet, call.encoding, self._bounds.max_bytes)
        reading = Reading(self._model.encoder, call.parameters, BLOCK_ROWS, self._bounds.max_bytes)
        blocks = read_blocks(call.source, file, reading, self._bounds)
        stream = Stream(
            self._shop, call, blocks, inlet, writer_of(call.target, self._model, call.parameters, call.request_id)
        )
        start = partial(_start, send, [*call.headers_for(self._model_header), *further])
        task = asyncio.current_task()
        assert task is not None, "requests are tasks"
        filling = asyncio.create_task(pump(receive, inlet, self._bounds, task.cancel))
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


async def _start(send: Send, headers: Sequence[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": headers})
