"""A table over HTTP: chunks of the body to blocks of rows, through the one queue that all callers share, to chunks.

    receive -> Inlet -> thread: read blocks, encode -> Batcher -> thread: write -> Outlet -> send

One block is read while the one before runs, so memory holds a few blocks of this table whatever its length. Blocks
are admitted as any request is: rows of other callers share their runs. Before the first answer a full queue is 429, as
for any request; later the table waits for its place. What goes wrong before the first answer is a plain refusal; what
goes wrong later ends the connection without the end of the body, which every client reports, and CSV and JSON Lines
say in a last line why.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any, BinaryIO, NamedTuple

import orjson

from service import errors
from service.admission import Outputs
from service.batching import Batcher
from service.errors import ServiceError
from service.exchange import ID_HEADER, TIMEOUT_HEADER, parse_timeout, request_id_of, special
from service.features import Arrays
from service.logs import event
from service.metrics import Tally
from service.model import Model
from service.tables.block import Block, Blocks, Read, Reading
from service.tables.formats import ARROW_FILE, CSV, JSON, PARQUET, TSV, Format, pyarrow, table_type
from service.tables.inlet import Inlet, opened
from service.tables.outlet import Outlet
from service.tables.parameters import Parameters, parse
from service.tables.predictions import Answered, refusal
from service.tables.spooled import spooled
from service.tables.table import blocks_of, writer_of
from service.tables.writers import Writer
from service.wire.compression import header
from service.wire.dialect import Headers, Limits

BLOCK_ROWS = 2048  # half of what one batch of the queue holds: others have their place beside it
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.005, 0.25  # between two tries for a place in the queue

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class GoneError(Exception):
    """The caller closed the connection."""


class Bounds(NamedTuple):
    """What one table may take."""

    limits: Limits
    max_bytes: int  # of a body, packed and unpacked
    timeout_s: float  # of one block in the queue, and of a body that does not go on


class Places:
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

    def __init__(
        self, model: Model, batcher: Batcher, tally: Tally, executor: Executor, places: Places, bounds: Bounds
    ) -> None:
        """Read and write in threads of `executor`, two for each place."""
        self._model = model
        self._batcher = batcher
        self._tally = tally
        self._executor = executor
        self._places = places
        self._bounds = bounds
        described = {"name": model.manifest.name, "version": model.manifest.version, **model.fingerprint}
        self._model_header = (b"x-model", orjson.dumps(described))

    async def answer(
        self, query: bytes, headers: Headers, receive: Receive, send: Send, further: Sequence[tuple[bytes, bytes]]
    ) -> None:
        """Answer one request; raises ServiceError while nothing is sent."""
        call = _Call(query, headers, self._bounds.timeout_s)
        try:
            with self._places:
                await self._answer(call, receive, send, further)
        except ServiceError as error:
            self._tally.refused(error.code)
            raise
        except GoneError:
            self._tally.cancelled()

    async def _answer(
        self, call: "_Call", receive: Receive, send: Send, further: Sequence[tuple[bytes, bytes]]
    ) -> None:
        inlet = Inlet(asyncio.get_running_loop())
        task = asyncio.current_task()
        assert task is not None, "requests are tasks"
        pump = asyncio.create_task(_pump(receive, inlet, self._bounds, task.cancel))
        try:
            blocks = self._blocks(call, inlet)
            start = partial(_start, send, [*call.headers_for(self._model_header), *further])
            await _Stream(self, call, blocks, inlet).run(start, send)
        except asyncio.CancelledError:
            if task.cancelling() and pump.done() and not pump.cancelled():  # it is the pump that cancelled
                task.uncancel()
                raise GoneError from None
            raise
        finally:
            pump.cancel()
            inlet.end(GoneError())

    def _blocks(self, call: "_Call", inlet: Inlet) -> Iterator[tuple[Block, Read]]:
        """Yield blocks with their rows as arrays; runs in a thread."""
        file = opened(inlet, call.encoding, self._bounds.max_bytes)
        reading = Reading(self._model.encoder, call.parameters, BLOCK_ROWS)
        for found in (call.source, call.target):
            if found.needs_pyarrow:
                pyarrow(found)
        return _read(call.source, file, reading, self._bounds)

    async def step(self, make: Callable[[], Any]) -> Any:
        """Run in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, make)

    async def run(self, arrays: Arrays, rows: int, timeout_s: float, *, may_wait: bool) -> Outputs:
        """Return the rows' outputs; with `may_wait` a full queue is waited for. Raises ServiceError."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return await self._submit(arrays, rows, timeout_s)
            except ServiceError as error:
                if error.status != 429 or not may_wait:
                    raise
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _submit(self, arrays: Arrays, rows: int, timeout_s: float) -> Outputs:
        answered: asyncio.Future[Outputs] = asyncio.get_running_loop().create_future()

        def reply(outputs: Outputs | None, error: ServiceError | None) -> None:
            if outputs is not None:
                answered.set_result(outputs)
            else:
                assert error is not None, "a reply has outputs or an error"
                answered.set_exception(error)

        ticket = self._batcher.submit(arrays, rows, timeout_s, reply)
        try:
            return await answered
        except asyncio.CancelledError:
            self._batcher.cancel(ticket)
            raise

    def writer(self, call: "_Call") -> Writer:
        """Return the writer of the answer."""
        return writer_of(call.target, self._model, call.parameters, call.request_id)

    def count(self, rows: int, code: str | None) -> None:
        """Count a table that was answered, or broke off."""
        if code is None:
            self._tally.ok_requests += 1
            self._tally.ok_rows += rows
        else:
            self._tally.refused(code)

    @property
    def error_limit(self) -> int:
        """Return how many bad rows a refusal lists."""
        return self._bounds.limits.error_limit


class _Call:
    """What one request asks for; raises ServiceError."""

    def __init__(self, query: bytes, headers: Headers, timeout_s: float) -> None:
        found = special(headers)
        self.parameters: Parameters = parse(query)
        self.request_id = request_id_of(found)
        self.timeout_s = parse_timeout(found[TIMEOUT_HEADER], timeout_s) if TIMEOUT_HEADER in found else timeout_s
        self.encoding = header(headers, b"content-encoding") or b""
        self.source = table_type(header(headers, b"content-type")) or JSON
        accept = header(headers, b"accept") or b""
        is_json = accept.partition(b";")[0].strip() == JSON.media_type.encode()
        self.target: Format = JSON if is_json else table_type(accept) or self.source

    def headers_for(self, model: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
        """Return the headers of the answer."""
        charset = "; charset=utf-8" if self.target in (CSV, TSV) else ""
        media_type = (b"content-type", (self.target.media_type + charset).encode())
        return [media_type, (ID_HEADER, self.request_id.encode()), model]


class _Stream:
    """One table from its first block to its last."""

    def __init__(self, route: TableRoute, call: _Call, blocks: Iterator[tuple[Block, Read]], inlet: Inlet) -> None:
        self._route = route
        self._call = call
        self._blocks = blocks
        self._inlet = inlet
        self._writer = route.writer(call)
        self._rows = 0

    async def run(self, start: Callable[[], Awaitable[None]], send: Send) -> None:
        """Answer block by block; raises ServiceError while nothing is sent."""
        answers = self._answers()
        first = await anext(answers)
        await start()
        outlet = Outlet(partial(_send_part, send), lambda: self._inlet.is_whole)
        sending = asyncio.create_task(outlet.run())
        code = None
        try:
            await outlet.put(first)
            try:
                async for part in answers:
                    await outlet.put(part)
            except ServiceError as error:
                code = error.code
                event("table_broken_off", 30, request_id=self._call.request_id, code=code, rows=self._rows)
                if self._writer.broken is not None:
                    await outlet.put(self._writer.broken + error.as_json(self._call.request_id) + b"\n")
            await outlet.end()
            await sending
        finally:
            sending.cancel()
        self._route.count(self._rows, code)
        if code is None:
            await send({"type": "http.response.body", "body": b""})
        else:
            raise BrokenOffError

    async def _answers(self) -> Any:
        """Yield the parts of the answer; the first one is there once the first block has run."""
        next_block = self._begin_next()
        try:
            while (found := await next_block) is not None:
                next_block = self._begin_next()
                yield await self._answer(*found)
        finally:
            next_block.cancel()
        yield await self._route.step(self._writer.end)

    def _begin_next(self) -> "asyncio.Future[tuple[Block, Read] | None]":
        reading = asyncio.ensure_future(self._route.step(partial(next, self._blocks, None)))
        reading.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be left to be told
        return reading

    async def _answer(self, block: Block, read: Read) -> bytes:
        if read.problems and self._call.parameters.on_error == "stop":
            raise refusal(block, read.problems, self._route.error_limit)
        rows = len(read.kept)
        outputs: Mapping[str, Any] = {}
        if rows:
            may_wait = self._rows > 0
            outputs = await self._route.run(read.arrays, rows, self._call.timeout_s, may_wait=may_wait)
        self._rows += rows
        answered = Answered(block, read.kept, outputs, read.problems)
        data: bytes = await self._route.step(partial(self._writer.write, answered))
        return data


class BrokenOffError(Exception):
    """An answer that broke off after it began: its connection is closed without the end of the body."""


def _read(source: Format, file: BinaryIO, reading: Reading, bounds: Bounds) -> Iterator[tuple[Block, Read]]:
    blocks: Blocks
    if source == JSON:
        from service.tables.objects import object_blocks

        blocks = object_blocks(file, reading, bounds.limits.max_body_bytes)
    elif source in (PARQUET, ARROW_FILE):
        with spooled(file, bounds.max_bytes) as whole:
            yield from ((block, block.read()) for block in blocks_of(whole, source, reading))
        return
    else:
        blocks = blocks_of(file, source, reading)
    yield from ((block, block.read()) for block in blocks)


async def _pump(receive: Receive, inlet: Inlet, bounds: Bounds, on_gone: Callable[[], object]) -> None:
    """Put the body into the inlet; after its end, watch for a caller that goes away."""
    size, is_whole = 0, False
    while True:
        try:
            message = await asyncio.wait_for(receive(), None if is_whole else bounds.timeout_s)
        except TimeoutError:
            inlet.end(ServiceError(408, "body_stalled", f"No more of the body came for {bounds.timeout_s:g} s."))
            is_whole = True
            continue
        if message["type"] == "http.disconnect":
            on_gone()
            return
        if is_whole:
            continue
        data = message.get("body", b"")
        size += len(data)
        if size > bounds.max_bytes:
            inlet.end(errors.body_too_large(bounds.max_bytes))
            is_whole = True
            continue
        await inlet.put(data)
        if not message.get("more_body"):
            inlet.end()
            is_whole = True


async def _start(send: Send, headers: Sequence[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _send_part(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})
