"""A file of rows, read: text tables, JSON Lines, Parquet or Arrow to one Arrow table with distinct column names and a checksum.

Text tables are read by the reader that scoring has, and their cells stay texts: batchproof.training.data.columns finds what they are.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from batchproof.service.errors import ServiceError, behind, closest, first_line
from batchproof.service.features.row_encoder import listed
from batchproof.service.features.texts.csv_records import SIGNS, Record, Records, column_names
from batchproof.service.tables.codecs import DELIMITERS
from batchproof.service.tables.formats import ARROW_FILE, ARROW_STREAM, CSV, LINES, PARQUET
from batchproof.service.tables.offline.sources import SourceError, format_of, open_source, parquet_files
from batchproof.service.tables.readers.arrow_types import index_names
from batchproof.service.tables.readers.parquet_folder import folder_dataset
from batchproof.training.data.tables.table_error import TableError

BLOCK_ROWS = 16_384  # of a text table that become Arrow arrays together
LONGEST_NAME = 1000
SEPARATOR = re.compile(r"[\s:,;|]")  # a sign that may stand between the names of a header
SHOWN_NAME = 200  # characters of a name in a refusal


@dataclass(frozen=True)
class RawTable:
    """A file as it was read: nothing is decided about its columns."""

    path: Path
    arrow: pa.Table
    sha256: str  # of the file
    is_text: bool = False  # whether every column holds the cells of a text table
    lines: np.ndarray | None = None  # [rows] int64, the line that each row begins at, where the file has lines
    numbers: np.ndarray | None = (
        None  # [rows] int64, the number that each row has in the file, where rows were left out
    )
    index: frozenset[str] = frozenset()  # columns that number the rows of a data frame
    unusable: Mapping[str, str] = field(default_factory=dict)  # column -> why it has no type
    warnings: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The column names, in file order."""
        return list(self.arrow.column_names)

    def extended(self, arrow: pa.Table, other: "RawTable") -> "RawTable":
        """Return `arrow`, the rows of this table and behind them those of `other`."""
        has_lines = self.lines is not None and other.lines is not None
        lines = np.concatenate([self.lines, other.lines]) if has_lines else None
        return replace(self, arrow=arrow, lines=lines, warnings=self.warnings + other.warnings)

    def without(self, left_out: np.ndarray, why: str) -> "RawTable":
        """Return the table without the rows that `left_out` [rows] bool marks, and a warning of their number and `why`."""
        kept = np.flatnonzero(~left_out)
        numbers = kept if self.numbers is None else self.numbers[kept]
        lines = None if self.lines is None else self.lines[kept]
        line = f"{int(left_out.sum())} of {len(left_out)} rows are left out: {why}."
        return replace(self, arrow=self.arrow.take(kept), lines=lines, numbers=numbers, warnings=(*self.warnings, line))

    def place(self, row: int) -> str:
        """Return the place of a row as scoring names it: its line in a file of lines, otherwise its number from 0 up."""
        number = row if self.numbers is None else self.numbers[row]
        return f"row {number} (the first is row 0)" if self.lines is None else f"line {self.lines[row]}"


def first_place(is_bad: np.ndarray, place: Callable[[int], str]) -> str:
    """Return the place of the first bad row, and in how many more rows it is so; `is_bad` [rows] marks one at least."""
    count, first = int(is_bad.sum()), int(np.flatnonzero(is_bad)[0])
    return f"{place(first)} and in {count - 1} more rows" if count > 1 else place(first)


def read(path: Path) -> RawTable:
    """Read the file at `path`, or the folder of Parquet files; TableError says in one sentence why it cannot be used."""
    try:
        table = _folder(path) if path.is_dir() else _file(path)
    except ServiceError as error:
        raise TableError(behind(path, error.message)) from error
    except SourceError as error:
        raise TableError(f"{error}.") from error
    except (pa.ArrowException, OSError) as error:
        why = getattr(error, "strerror", None) or first_line(error)
        raise TableError(f"{getattr(error, 'filename', None) or path} cannot be read: {why}.") from error
    _check(path, table.arrow)
    return table


def held(arrow: pa.Table, name: str) -> RawTable:
    """Return a table that is in memory already, as if read from a file called `name`."""
    _check(Path(name), arrow)
    digest = hashlib.sha256()
    for batch in arrow.to_batches():
        digest.update(batch.serialize())
    return RawTable(Path(name), arrow, digest.hexdigest())


def nearest(name: str, names: list[str]) -> str:
    """Return the end of a sentence that an unknown column name is refused with."""
    similar = closest(name, names)
    return f"did you mean {similar!r}?" if similar else f"the columns are {listed(names)}."


def _folder(path: Path) -> RawTable:
    files = parquet_files(path)
    if not files:
        raise TableError(f"{path} is a folder without Parquet files: a table is a file, or a folder of Parquet files.")
    arrow = folder_dataset(path, files).to_table()
    digest = hashlib.sha256("".join(_sha256(file) for file in files).encode()).hexdigest()
    return RawTable(path, arrow, digest, index=index_names(arrow.schema.metadata))


def _file(path: Path) -> RawTable:
    if not path.is_file():
        raise TableError(f"there is no file {path}.")
    if path.stat().st_size == 0:
        raise TableError(f"{path} is empty.")
    fmt = format_of(path)
    if fmt == LINES:
        return _json_lines(path)
    if fmt in DELIMITERS:
        return _text(path, SIGNS if fmt == CSV else DELIMITERS[fmt])
    arrow = _parquet(path) if fmt == PARQUET else _arrow(path)
    return RawTable(path, arrow, _sha256(path), index=index_names(arrow.schema.metadata))


def _parquet(path: Path) -> pa.Table:
    """Read one file as scoring does: an INT96 timestamp of nanoseconds would wrap around in far years."""
    with parquet.ParquetFile(path, coerce_int96_timestamp_unit="us") as file:
        return file.read()


def _arrow(path: Path) -> pa.Table:
    source, fmt = open_source(path)
    assert fmt in (ARROW_FILE, ARROW_STREAM), "other formats are read elsewhere"
    with source, pa.ipc.open_file(source) if fmt == ARROW_FILE else pa.ipc.open_stream(source) as reader:
        return reader.read_all()


def _text(path: Path, signs: str) -> RawTable:
    file, _ = open_source(path)
    with file:
        records = Records(file, signs)
        rows = iter(records)
        _, header = next(rows, (1, []))
        names = column_names(header)
        if not names:
            raise TableError(f"{path} holds only blank lines: its first line must name the columns.")
        if len(names) == 1 and SEPARATOR.search(names[0]):
            raise _one_column(path, names[0], signs)
        columns: list[list[pa.Array]] = [[] for _ in names]
        lines, warnings = [], []
        for block in _blocks(rows):
            cells = _transposed(path, block, len(names))
            for arrays, column in zip(columns, cells, strict=True):
                arrays.append(pa.array(column, pa.large_string()))
            lines += [line for line, _ in block]
            warnings += _swallowed(block, len(names), records.delimiter)
    arrow = pa.Table.from_arrays([pa.chunked_array(arrays, pa.large_string()) for arrays in columns], names=names)
    return RawTable(
        path, arrow, _sha256(path), is_text=True, lines=np.asarray(lines, np.int64), warnings=tuple(warnings)
    )


def _one_column(path: Path, name: str, signs: str) -> TableError:
    """Return the refusal of a header that seems to have one name: other signs separate its names."""
    wanted = "tabs" if signs == "\t" else "commas, semicolons, tabs or bars"
    return TableError(f"{path} has one column, {name[:SHOWN_NAME]!r}: column names must be separated by {wanted}.")


def _blocks(rows: Iterator[Record]) -> Iterator[list[Record]]:
    while block := list(islice(rows, BLOCK_ROWS)):
        yield block


def _transposed(path: Path, block: list[Record], width: int) -> list[tuple[str, ...]]:
    """Return the cells column by column; a row of another length is refused without its values."""
    for line, cells in block:
        if len(cells) != width:
            raise TableError(f"line {line} of {path} has {len(cells)} cells, but there are {width} columns.")
    return list(zip(*(cells for _, cells in block), strict=True))


def _swallowed(block: list[Record], width: int, delimiter: str) -> list[str]:
    """Return a warning for each cell in quotes whose lines look like rows: a quote may be missing."""
    warnings = []
    for (line, cells), (following, _) in pairwise(block):
        if following - line < 3:
            continue
        for cell in cells:
            inner = cell.splitlines()[1:-1]
            if inner and all(text.count(delimiter) == width - 1 for text in inner):
                warnings.append(
                    f"line {line}: a cell in quotes holds {len(inner)} lines that look like rows; is a quote missing?"
                )
    return warnings


def _json_lines(path: Path) -> RawTable:
    from batchproof.training.data.tables.json_columns import read_columns  # which raises TableError

    file, _ = open_source(path)
    with file:
        columns = read_columns(path, file)
    lines = np.asarray(columns.lines, np.int64)
    return RawTable(path, columns.arrow, _sha256(path), lines=lines, unusable=columns.unusable)


def _check(path: Path, arrow: pa.Table) -> None:
    names = arrow.column_names
    for number, name in enumerate(names, 1):
        if names.count(name) > 1:
            raise TableError(
                f"{path} has {names.count(name)} columns {f'named {name!r}' if name else 'without a name'}: give each its own name."
            )
        if len(name) > LONGEST_NAME:
            raise TableError(
                f"column {number} of {path} has a name of {len(name)} characters: {LONGEST_NAME} are the most."
            )
    if arrow.num_rows == 0:
        raise TableError(f"{path} has a header but no rows.")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
