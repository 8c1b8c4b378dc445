"""The answer of one file as it is written: block after block into parts, each finished at its size."""

import os
from typing import BinaryIO, NamedTuple, Self

from batchproof.service.inference.model import Model
from batchproof.service.tables.codecs import writer_of
from batchproof.service.tables.formats import Format
from batchproof.service.tables.offline.parts import Parts
from batchproof.service.tables.parameters import Parameters
from batchproof.service.tables.writers.result_columns import Answered
from batchproof.service.tables.writers.text import Writer

SYNC_BYTES = 64 << 20  # written before they are sent to the disk: the end of a part then waits only for the rest


class ScoringOptions(NamedTuple):
    """How files are scored."""

    parameters: Parameters
    block_rows: int
    part_rows: int
    workers: int = 1  # blocks that the engine runs at a time


class Output:
    """Writes blocks into `parts`; all of it is called in one thread, one call after another."""

    def __init__(self, parts: Parts, model: Model, way: ScoringOptions, written: Format) -> None:
        """Begin no part yet: the table may be refused."""
        self._parts = parts
        self._model = model
        self._way = way
        self._format = written
        self._file: BinaryIO | None = None
        self._writer: Writer | None = None
        self._rows = 0
        self._bad_rows = 0
        self._synced_bytes = 0

    def __enter__(self) -> Self:
        """Return the output."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the part that was not finished."""
        if self._file is not None:
            self._file.close()

    def write(self, answered: Answered) -> None:
        """Write a block, and finish the part where it has its rows."""
        file, writer = self._begun()
        file.write(writer.write(answered))
        self._rows += answered.block.rows
        self._bad_rows += answered.block.rows - len(answered.kept)
        if file.tell() - self._synced_bytes >= SYNC_BYTES:
            self._sync(file)
        if self._rows >= self._way.part_rows:
            self._finish()

    def end(self) -> None:
        """Finish the last part; a table without a row has one too."""
        if self._rows or not self._parts.finished:
            self._finish()

    def _begun(self) -> tuple[BinaryIO, Writer]:
        if self._file is None or self._writer is None:
            self._file = self._parts.next_file()
            self._writer = writer_of(
                self._format, self._model, self._way.parameters, has_head=not self._parts.finished, file=self._file
            )
        return self._file, self._writer

    def _finish(self) -> None:
        file, writer = self._begun()
        with file:
            file.write(writer.end())
            self._sync(file)
        self._parts.finish(self._rows, self._bad_rows)
        self._file = self._writer = None
        self._rows = self._bad_rows = self._synced_bytes = 0

    def _sync(self, file: BinaryIO) -> None:
        file.flush()
        os.fsync(file.fileno())
        self._synced_bytes = file.tell()
