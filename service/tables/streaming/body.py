"""The body of a request for a table: from the connection into an inlet, and out of it as blocks."""

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from batchproof.service import errors
from batchproof.service.errors import ServiceError
from batchproof.service.tables.block import Block, Blocks, Read, Reading
from batchproof.service.tables.codecs import blocks_of
from batchproof.service.tables.formats import JSON, PARQUET, Format
from batchproof.service.tables.sandbox.remote import RemoteReader
from batchproof.service.tables.streaming.body_file import BodyFile
from batchproof.service.tables.streaming.interface import Bounds, Receive
from batchproof.service.tables.streaming.slots import TableSlot


async def pump(
    receive: Receive, inlet: BodyFile, bounds: Bounds, slot: TableSlot, on_gone: Callable[[], object]
) -> None:
    """Put the body into the inlet; after its end, watch for a caller that goes away."""
    size, is_whole = 0, False

    def give_up(error: ServiceError) -> None:
        nonlocal is_whole
        is_whole = True
        inlet.end(error)

    slot.give_up = give_up
    while True:
        slot.wait()
        try:
            message = await asyncio.wait_for(receive(), None if is_whole else bounds.timeout_s)
        except TimeoutError:
            inlet.end(ServiceError(408, "body_stalled", f"No part of the body arrived for {bounds.timeout_s:g} s."))
            is_whole = True
            continue
        if message["type"] == "http.disconnect":
            on_gone()
            return
        if is_whole:
            continue
        data = message.get("body", b"")
        size += len(data)
        slot.received(len(data))
        if size > bounds.max_bytes:
            inlet.end(errors.body_too_large(bounds.max_bytes))
            is_whole = True
            continue
        await inlet.put(data)
        if not message.get("more_body"):
            inlet.end()
            is_whole, slot.give_up = True, None


def read_blocks(
    source: Format, inlet: BodyFile, file: BinaryIO, reading: Reading, bounds: Bounds, remote: RemoteReader
) -> Iterator[tuple[Block, Read]]:
    """Yield blocks with their rows as arrays; runs in a thread. Raises ServiceError, and CallerGoneError.

    `file` is what comes out of `inlet`, unpacked. Parquet's reader may end its process: it has one of its own, `remote`.
    """
    blocks: Blocks
    if source == JSON:
        from batchproof.service.tables.readers.json_rows import object_blocks

        blocks = object_blocks(file, reading, bounds.limits.max_body_bytes)
    elif source == PARQUET:
        with spooled(file, bounds.max_bytes) as whole:
            yield from ((block, block.read()) for block in remote.blocks(whole, source, reading, inlet.check))
        return
    else:
        blocks = blocks_of(file, source, reading)
    yield from ((block, block.read()) for block in blocks)


COPY_BYTES = 1 << 20


@contextmanager
def temporary_file() -> Iterator[BinaryIO]:
    """Open a file that is removed at the end; raises ServiceError (507) where there is no folder for it."""
    try:
        file = tempfile.TemporaryFile(prefix="batchproof-", buffering=0)  # noqa: SIM115 - closed below
    except OSError as error:
        raise errors.no_disk_space(error) from error
    with file:
        yield cast(BinaryIO, file)


def copy(source: BinaryIO, target: BinaryIO) -> None:
    """Copy all of `source`; raises ServiceError (507) where `target` cannot hold it, and what reading raises."""
    while data := source.read(COPY_BYTES):
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[target.write(rest) :]
        except OSError as error:
            raise errors.no_disk_space(error) from error


@contextmanager
def spooled(file: BinaryIO, limit_bytes: int) -> Iterator[BinaryIO]:
    """Copy `file` to a temporary file, which is removed at the end; raises 413, and 507 where the disk has no room."""
    with temporary_file() as whole:
        copy(file, whole)
        if whole.tell() > limit_bytes:
            raise errors.body_too_large(limit_bytes)
        whole.seek(0)
        yield whole
