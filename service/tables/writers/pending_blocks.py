"""Blocks of a table whose rows are being predicted: read, and not written yet."""

from collections import deque
from collections.abc import Iterator

from batchproof.service.features.arrays import Outputs
from batchproof.service.tables.block import Block, Read, Rows
from batchproof.service.tables.parameters import Parameters
from batchproof.service.tables.writers.result_columns import Answered, refusal
from batchproof.service.tables.writers.text import Writer


class PendingBlocks:
    """Reads the blocks of one table and, as their outputs come, writes them in the same order."""

    def __init__(
        self, blocks: Iterator[tuple[Block, Read]], writer: Writer, parameters: Parameters, error_limit: int
    ) -> None:
        """Write with `writer`; a refusal lists up to `error_limit` faults."""
        self._blocks = blocks
        self._writer = writer
        self._parameters = parameters
        self._error_limit = error_limit
        self._waiting: deque[tuple[Block, Read]] = deque()  # for their outputs

    def __len__(self) -> int:
        """Return how many blocks wait for their outputs."""
        return len(self._waiting)

    def read(self) -> Rows | None:
        """Return the rows of the next block, None behind the last one; raises ServiceError."""
        found = next(self._blocks, None)
        if found is None:
            return None
        block, read = found
        if read.problems and self._parameters.on_error == "stop":
            raise refusal(block, read.problems, self._error_limit, self._parameters)
        self._waiting.append(found)
        return Rows(block.rows, read.kept, read.arrays)

    def write(self, outputs: Outputs) -> bytes:
        """Return the answer to the first block that waits; raises ServiceError."""
        block, read = self._waiting.popleft()
        return self._writer.write(Answered(block, read.kept, outputs, read.problems))

    def end(self) -> bytes:
        """Return what ends the answer."""
        return self._writer.end()
