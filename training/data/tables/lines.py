"""Files of lines to one table: what the readers of text tables and of JSON Lines share."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa

from batchproof.training.data.tables.storage import Memory

BLOCK_ROWS = 16_384  # lines whose values become Arrow arrays together

Row = TypeVar("Row")


class LinesTable(ABC):
    """The rows of files, in the order in which they are added; the first file names the columns."""

    def __init__(self, storage: Memory) -> None:
        """Hold no rows; their values will be kept in `storage`."""
        self._storage = storage
        self._first: Path | None = None
        self._lines: list[np.ndarray] = []
        self.warnings: list[str] = []

    @property
    def rows(self) -> int:
        """The number of rows so far."""
        return sum(map(len, self._lines))

    @property
    def lines(self) -> np.ndarray:
        """The line that each row begins at in its file [rows] int64."""
        return np.concatenate([np.empty(0, np.int64), *self._lines])

    @property
    def unusable(self) -> Mapping[str, str]:
        """The columns without a type, and why."""
        return {}

    @abstractmethod
    def add(self, path: Path, where: str = "") -> None:
        """Add the rows of a file; `where` follows a line in a warning. Raises TableError, or ServiceError."""

    @abstractmethod
    def arrow(self) -> pa.Table:
        """Return the values, column by column."""

    def _blocks(self, rows: Iterable[tuple[int, Row]]) -> Iterator[list[tuple[int, Row]]]:
        """Yield rows with their lines, some at a time, and note the lines of those."""
        rows = iter(rows)
        while block := list(islice(rows, BLOCK_ROWS)):
            self._lines.append(np.asarray([line for line, _ in block], np.int64))
            yield block
