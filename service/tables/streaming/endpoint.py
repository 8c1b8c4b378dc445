"""A table over HTTP: chunks of the body to blocks of rows, through the one queue that all callers share, to chunks.

    receive -> inlet -> table: read blocks, encode -> Batcher -> table: write -> ResponseBuffer -> send

What reads and writes a table is a process of its own where it is long and of text, else threads of this one.

One block is read while the one before runs, so memory holds a few blocks of this table whatever its length. Blocks
are admitted as any request is: rows of other callers share their runs. Before the first answer a full queue is 429, as
for any request; later the table waits for its place. What goes wrong before the first answer is a plain refusal; what
goes wrong later ends the connection without the end of the body, which every client reports, and CSV and JSON Lines
say in a last line why.
"""

import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

import orjson

from batchproof.service.errors import CallerGoneError, ServiceError
from batchproof.service.inference.model import Model
from batchproof.service.protocols.head import RequestHead
from batchproof.service.runtime.metrics import ModelKey
from batchproof.service.tables.streaming.interface import Bounds, Receive, Send, TableWorkers
from batchproof.service.tables.streaming.slots import TableSlots
from batchproof.service.tables.streaming.table_request import TableRequest

if TYPE_CHECKING:
    from batchproof.service.tables.streaming.answering import Answering

ANSWERING = "batchproof.service.tables.streaming.answering"


class TableEndpoint:
    """One model's tables."""

    def __init__(self, model: Model, workers: TableWorkers, slots: TableSlots, bounds: Bounds, label: str = "") -> None:
        """Read and write in threads of `workers`, two for each slot; answers name the `label` that was asked for."""
        self._workers = workers
        self._slots = slots
        self._bounds = bounds
        self._model = model
        self._answering: Answering | None = None  # made for the first table
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
        """Answer one request and return its rows; raises ServiceError while nothing is sent, and CallerGoneError."""
        seen = head.seen
        if seen is not None:
            seen.key = self.key
        try:
            request = TableRequest(head, self._bounds.timeout_s)
            slot = self._slots.take()
            try:
                if self._answering is None:
                    make = await _loaded(self._workers)
                    self._answering = make(self._model, self._workers, self._bounds)
                headers = [*request.headers_for(self._model_header), *extra_headers]
                rows = await self._answering.answer(request, slot, receive, send, headers)
            finally:
                self._slots.leave(slot)
        except ServiceError as error:
            self.count_refusal(error)
            raise
        except CallerGoneError:
            self._workers.tally.cancelled()
            raise
        if seen is not None:
            seen.rows = rows
        return rows

    def count_refusal(self, error: ServiceError) -> None:
        """Count a request that is refused."""
        self._workers.tally.refused(error.code)


async def _loaded(workers: TableWorkers) -> "type[Answering]":
    """Return what answers tables; it is loaded in a thread, because that takes some milliseconds."""
    if ANSWERING not in sys.modules:
        await workers.step(partial(import_module, ANSWERING))
    from batchproof.service.tables.streaming.answering import Answering

    return Answering
