"""One table over HTTP, from the request to the task that answers it. Loaded with the first table."""

import asyncio
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec

from batchproof.service.errors import CallerGoneError
from batchproof.service.inference.model import Model
from batchproof.service.tables.block import Reading
from batchproof.service.tables.codecs import writer_of
from batchproof.service.tables.formats import PARQUET, pyarrow
from batchproof.service.tables.sandbox.remote import RemoteReader
from batchproof.service.tables.streaming.body import pump, read_blocks
from batchproof.service.tables.streaming.body_file import BodyFile, opened
from batchproof.service.tables.streaming.interface import Bounds, Receive, Send, TableWorkers
from batchproof.service.tables.streaming.slots import TableSlot
from batchproof.service.tables.streaming.stream import Stream
from batchproof.service.tables.streaming.table_request import TableRequest

BLOCK_ROWS = 2048  # half of what one batch of the queue holds: others have their place beside it


async def answer(
    model: Model,
    workers: TableWorkers,
    bounds: Bounds,
    request: TableRequest,
    slot: TableSlot,
    receive: Receive,
    send: Send,
    headers: Sequence[tuple[bytes, bytes]],
) -> int:
    """Answer one request, with these headers, and return its rows; raises ServiceError while nothing is sent, and CallerGoneError."""
    remote = workers.remote()
    if request.source.needs_pyarrow or request.target.needs_pyarrow:
        await workers.step(partial(_load, request, remote))
    inlet = BodyFile(asyncio.get_running_loop())
    file = opened(inlet, request.encoding, bounds.max_bytes)
    reading = Reading(model.encoder, request.parameters, BLOCK_ROWS, bounds.max_bytes)
    blocks = read_blocks(request.source, inlet, file, reading, bounds, remote)
    writer = writer_of(request.target, model, request.parameters, request.request_id)
    stream = Stream(workers, request, blocks, inlet, writer)
    task = asyncio.current_task()
    assert task is not None, "requests are tasks"
    filling = asyncio.create_task(pump(receive, inlet, bounds, slot, task.cancel))
    try:
        return await stream.run(partial(_start, send, headers), send)
    except asyncio.CancelledError:
        if filling.done():  # it saw the caller go
            task.uncancel()
            raise CallerGoneError from None
        raise
    finally:
        filling.cancel()
        inlet.end(CallerGoneError())


def _load(request: TableRequest, remote: RemoteReader) -> None:
    """Load what the formats of body and answer need, in a thread: the first time it takes a while; raises 415, 503."""
    if request.source == PARQUET and find_spec("pyarrow"):
        remote.warm()  # it loads the same beside us
    for table_format in (request.source, request.target):
        if table_format.needs_pyarrow:
            pyarrow(table_format)


async def _start(send: Send, headers: Sequence[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": headers})
