"""A table that threads of this process read and write: a short one, or one whose reader gives up the interpreter's lock."""

from collections.abc import Iterator
from functools import partial
from typing import BinaryIO

from batchproof.service.features.arrays import Outputs
from batchproof.service.tables.block import Block, Read, Reading, Rows
from batchproof.service.tables.codecs import body_blocks
from batchproof.service.tables.formats import PARQUET, Format
from batchproof.service.tables.sandbox.remote import RemoteReader
from batchproof.service.tables.streaming.body.body_file import BodyFile
from batchproof.service.tables.streaming.body.spooled import spooled
from batchproof.service.tables.streaming.interface import Bounds, TableWorkers
from batchproof.service.tables.writers.pending_blocks import PendingBlocks


class ThreadTable:
    """One table of a process."""

    def __init__(self, workers: TableWorkers, pending: PendingBlocks) -> None:
        """Answer the blocks of `pending`."""
        self._workers = workers
        self._pending = pending

    async def next(self) -> Rows | None:
        """Return the next block, None behind the last one; raises ServiceError, and what ended the body."""
        rows: Rows | None = await self._workers.step(self._pending.read)
        return rows

    async def write(self, outputs: Outputs) -> bytes:
        """Return the text of the block whose turn it is; raises ServiceError."""
        data: bytes = await self._workers.step(partial(self._pending.write, outputs))
        return data

    async def end(self) -> bytes:
        """Return what ends the text."""
        data: bytes = await self._workers.step(self._pending.end)
        return data

    def close(self) -> None:
        """Do nothing: the threads see that the body has ended."""


def read_blocks(
    source: Format, inlet: BodyFile, file: BinaryIO, reading: Reading, bounds: Bounds, remote: RemoteReader
) -> Iterator[tuple[Block, Read]]:
    """Yield blocks with their rows as arrays; runs in a thread. Raises ServiceError, and CallerGoneError.

    `file` is what comes out of `inlet`, unpacked. Parquet's reader may end its process: it has one of its own, `remote`.
    """
    if source == PARQUET:
        with spooled(file, bounds.max_bytes) as whole:
            yield from ((block, block.read()) for block in remote.blocks(whole, source, reading, inlet.check))
        return
    blocks = body_blocks(file, source, reading, bounds.limits.max_body_bytes)
    yield from ((block, block.read()) for block in blocks)
