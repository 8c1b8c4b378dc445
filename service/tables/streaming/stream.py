"""One table from its first block to its last: the next block is read while this one runs."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import TypeVar

from batchproof.service.errors import ServiceError
from batchproof.service.features.arrays import Outputs
from batchproof.service.inference import async_run as awaiting
from batchproof.service.runtime.logs import event
from batchproof.service.tables.block import Rows
from batchproof.service.tables.streaming.interface import ROUTE, BrokenOffError, Inlet, Send, Table, TableWorkers
from batchproof.service.tables.streaming.response_buffer import ResponseBuffer
from batchproof.service.tables.streaming.table_request import TableRequest

Made = TypeVar("Made")


class Stream:
    """One table from its first block to its last."""

    def __init__(
        self,
        shop: TableWorkers,
        call: TableRequest,
        table: Table,
        inlet: Inlet,
    ) -> None:
        """Answer `table`, which comes out of `inlet`."""
        self._shop = shop
        self._call = call
        self._table = table
        self._inlet = inlet
        self._rows = 0
        self._read_rows = 0  # of the blocks so far, bad ones too
        journal = shop.journal
        self._journal = journal if journal is not None and journal.is_chosen() else None

    async def run(self, start: Callable[[], Awaitable[None]], send: Send) -> int:
        """Answer block by block and return the rows; raises ServiceError while nothing is sent, BrokenOffError later."""
        if self._journal is not None:
            self._journal.check_room()
        answers = self._answers()
        first = await anext(answers)
        await start()
        outlet = ResponseBuffer(partial(_send_part, send), lambda: self._inlet.is_whole)
        sending = asyncio.create_task(outlet.run())
        try:
            await outlet.put(first)
            error = await self._put_rest(answers, outlet)
            await outlet.end(b"" if error is None else self._last_line(error))
            if error is not None:
                await self._inlet.drop_rest()
            await sending
        finally:
            sending.cancel()
        if error is not None:
            self._shop.tally.refused(error.code)
            raise BrokenOffError(error.code)
        self._shop.tally.ok_requests += 1
        self._shop.tally.ok_rows += self._rows
        await send({"type": "http.response.body", "body": b""})
        return self._rows

    async def _put_rest(self, answers: AsyncIterator[bytes], outlet: ResponseBuffer) -> ServiceError | None:
        try:
            async for part in answers:
                await outlet.put(part)
        except ServiceError as error:
            event("table_broken_off", 30, **self._call.ids, code=error.code, rows=self._rows)
            return error
        return None

    def _last_line(self, error: ServiceError) -> bytes:
        """Return what ends an answer that broke off, where its format has room for such a line."""
        start = self._call.target.broken
        return b"" if start is None else start + error.as_json(self._call.request_id) + b"\n"

    async def _answers(self) -> AsyncIterator[bytes]:
        """Yield the parts of the answer; the first one is there once the first block has run."""
        next_block = self._begin_next()
        try:
            while (rows := await next_block) is not None:
                next_block = self._begin_next()
                yield await self._answer(rows)
        finally:
            next_block.cancel()
        yield await self._table.end()

    def _begin_next(self) -> "asyncio.Future[Rows | None]":
        reading = asyncio.ensure_future(self._staged("decode", self._table.next()))
        reading.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be left to be told
        return reading

    async def _staged(self, name: str, making: Awaitable[Made]) -> Made:
        """Await a stage of a request, which is recorded where it is traced."""
        if self._call.seen is None:
            return await making
        started_s = time.perf_counter()
        made = await making
        if made is not None:  # which is the end of the table
            self._call.seen.stage(name, started_s, time.perf_counter())
        return made

    async def _answer(self, block: Rows) -> bytes:
        rows = len(block.kept)
        if self._call.grant is not None:
            self._call.grant.charge(rows)
        outputs: Outputs = {}
        if rows:
            run = awaiting.run_patiently if self._rows else awaiting.run  # a full queue refuses what has not begun
            note = None
            if self._journal is not None:
                await self._journal.room()
                note = self._journal.note(self._call, ROUTE, rows, [self._read_rows + row for row in block.kept])
            outputs = await run(self._shop.batcher, block.arrays, rows, self._call.timeout_s, note, self._call.seen)
            if self._shop.drift is not None:
                self._shop.drift.offer(block.arrays, outputs, rows)
        self._rows += rows
        self._read_rows += block.total
        return await self._staged("encode", self._table.write(outputs))


async def _send_part(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})
