"""Text tables to columns of cells: one file, or parts with the same columns, read by the reader that scoring has."""

import re
import sys
from itertools import pairwise
from pathlib import Path

import pyarrow as pa

from batchproof.service.features.texts.csv_records import SIGNS, Record, Records, column_names
from batchproof.service.tables.block import differing_columns
from batchproof.service.tables.codecs import DELIMITERS
from batchproof.service.tables.formats import CSV, Format
from batchproof.service.tables.offline.sources import open_source
from batchproof.training.data.tables.lines import LinesTable
from batchproof.training.data.tables.storage import Memory
from batchproof.training.data.tables.table_error import TableError

SEPARATOR = re.compile(r"[\s:,;|]")  # a sign that may stand between the names of a header
SHOWN_NAME = 200  # characters of a name in a refusal


class TextTable(LinesTable):
    """The rows of text files."""

    def __init__(self, fmt: Format, storage: Memory) -> None:
        """Hold no rows; their values will be kept in `storage`."""
        super().__init__(storage)
        self._signs = SIGNS if fmt == CSV else DELIMITERS[fmt]
        self._names: list[str] = []
        self._batches: list[pa.RecordBatch] = []

    def arrow(self) -> pa.Table:
        """Return the cells as texts, column by column."""
        schema = pa.schema([pa.field(name, pa.large_string()) for name in self._names])
        return pa.Table.from_batches(self._batches, schema)

    def add(self, path: Path, where: str = "") -> None:
        """Add the rows of a file, whose columns may be in another order; `where` follows a line in a warning.

        Raises TableError for a file with other columns, ServiceError for one that is not such a text.
        """
        file, _ = open_source(path)
        with file:
            records = Records(file, self._signs)
            rows = iter(records)
            _, header = next(rows, (1, []))
            names = column_names(header)
            self._check_header(path, names)
            order = [names.index(name) for name in self._names] if names != self._names else range(len(names))
            for block in self._blocks(rows):
                cells = _transposed(path, block, len(names))
                arrays = [pa.array(cells[place], pa.large_string()) for place in order]
                self._batches.append(self._storage.keep(pa.RecordBatch.from_arrays(arrays, names=self._names)))
                self.warnings += _swallowed(block, len(names), records.delimiter, where)

    def _check_header(self, path: Path, names: list[str]) -> None:
        if not names:
            raise TableError(f"{path} holds only blank lines: its first line must name the columns.")
        if self._first is None:
            if len(names) == 1 and SEPARATOR.search(names[0]):
                raise _one_column(path, names[0], self._signs)
            self._first, self._names = path, names
        elif sorted(names) != sorted(self._names):
            raise other_columns(path, names, self._first, self._names)


def other_columns(path: Path, names: list[str], first: Path, wanted: list[str]) -> TableError:
    """Return the refusal of a part whose columns are not those of the first one: values would be lost."""
    differing = differing_columns(names, wanted)
    return TableError(
        f"{path} and {first} have different columns: {differing}. All parts of a table have the same columns."
    )


def _one_column(path: Path, name: str, signs: str) -> TableError:
    """Return the refusal of a header that seems to have one name: other signs separate its names."""
    wanted = "tabs" if signs == "\t" else "commas, semicolons, tabs or bars"
    return TableError(f"{path} has one column, {name[:SHOWN_NAME]!r}: column names must be separated by {wanted}.")


def _transposed(path: Path, block: list[Record], width: int) -> list[tuple[str, ...]]:
    """Return the cells column by column; a row of another length is refused without its values."""
    for line, cells in block:
        if len(cells) != width:
            raise TableError(f"line {line} of {path} has {len(cells)} cells, but there are {width} columns.")
    return list(zip(*(cells for _, cells in block), strict=True))


def _swallowed(block: list[Record], width: int, delimiter: str, where: str) -> list[str]:
    """Return a warning for each cell in quotes whose lines look like rows: a quote may be missing."""
    warnings = []
    last: Record = (sys.maxsize, [])  # what follows the block is not known: its last row may have any number of lines
    for (line, cells), (following, _) in pairwise([*block, last]):
        if following - line < 3:
            continue
        for cell in cells:
            inner = cell.splitlines()[1:-1]
            if inner and all(text.count(delimiter) == width - 1 for text in inner):
                warnings.append(
                    f"line {line}{where}: a cell in quotes holds {len(inner)} lines that look like rows; is a quote missing?"
                )
    return warnings
