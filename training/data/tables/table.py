"""A file of rows, or its parts, read: text tables, JSON Lines, Parquet or Arrow to one Arrow table and a checksum.

Text tables are read by the reader that scoring has, and their cells stay texts: batchproof.training.data.columns finds what they are.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from batchproof.service.errors import ServiceError, behind, closest, first_line
from batchproof.service.features.row_encoder import listed
from batchproof.service.tables.formats import ARROW_FILE, ARROW_STREAM, LINES, PARQUET
from batchproof.service.tables.offline.sources import SourceError, open_source
from batchproof.service.tables.readers.arrow_types import index_names
from batchproof.service.tables.readers.record_batches import PARQUET_OPTIONS, as_many, to_the_end
from batchproof.training.data.tables.json_columns import JsonTable
from batchproof.training.data.tables.parts import Parts, parts_of
from batchproof.training.data.tables.storage import MEMORY, Memory
from batchproof.training.data.tables.table_error import TableError
from batchproof.training.data.tables.text_table import TextTable

BATCH_ROWS = 65_536  # of a table of typed columns that are read together
LONGEST_NAME = 1000


class Part(NamedTuple):
    """One of the files whose rows are a table."""

    name: str
    first: int  # the number of its first row in the table


@dataclass(frozen=True)
class RawTable:
    """A table as it was read: nothing is decided about its columns."""

    path: Path  # of a file or a folder, or a pattern of files
    arrow: pa.Table
    sha256: str  # of the file; of several files, that of their SHA-256 one after another
    is_text: bool = False  # whether every column holds the cells of a text table
    lines: np.ndarray | None = None  # [rows] int64, the line that each row begins at, where the file has lines
    # [rows] int64, the number that each row has in the file, where rows were left out.
    numbers: np.ndarray | None = None
    index: frozenset[str] = frozenset()  # columns that number the rows of a data frame
    unusable: Mapping[str, str] = field(default_factory=dict)  # column -> why it has no type
    warnings: tuple[str, ...] = ()
    parts: Sequence[Part] = ()  # the files that lines are counted in, where there are several

    @property
    def names(self) -> list[str]:
        """The column names, in file order."""
        return list(self.arrow.column_names)

    def extended(self, arrow: pa.Table, other: "RawTable") -> "RawTable":
        """Return `arrow`, the rows of this table and behind them those of `other`."""
        has_lines = self.lines is not None and other.lines is not None
        lines = np.concatenate([self.lines, other.lines]) if has_lines else None
        parts: list[Part] = []
        if self.parts or other.parts:
            own, rows = (self.parts or [Part(self.path.name, 0)]), self.arrow.num_rows
            behind_own = other.parts or [Part(other.path.name, 0)]
            parts = [*own, *(part._replace(first=part.first + rows) for part in behind_own)]
        return replace(self, arrow=arrow, lines=lines, warnings=self.warnings + other.warnings, parts=parts)

    def drained(self, names: Iterable[str]) -> dict[str, pa.ChunkedArray]:
        """Return these columns by name, and leave the table without values, whoever else holds it.

        So each column can be freed once it has been typed: with it in memory twice, a run would take one more table.
        """
        arrow = self.arrow
        empty = [pa.chunked_array([], field.type) for field in arrow.schema]  # not of every type are there empty arrays
        object.__setattr__(self, "arrow", pa.Table.from_arrays(empty, schema=arrow.schema))
        return {name: arrow.column(name) for name in names}

    def without(self, left_out: np.ndarray, why: str, storage: Memory = MEMORY) -> "RawTable":
        """Return the table without the rows that `left_out` [rows] bool marks, and a warning of their number and `why`."""
        kept = np.flatnonzero(~left_out)
        numbers = kept if self.numbers is None else self.numbers[kept]
        lines = None if self.lines is None else self.lines[kept]
        line = f"{int(left_out.sum())} of {len(left_out)} rows are left out: {why}."
        arrow = _kept(_filtered(self.arrow, ~left_out), self.arrow.schema, storage)
        return replace(self, arrow=arrow, lines=lines, numbers=numbers, warnings=(*self.warnings, line))

    def place(self, row: int) -> str:
        """Return the place of a row as scoring names it: its line in a file of lines, otherwise its number from 0 up."""
        number = row if self.numbers is None else int(self.numbers[row])
        if self.lines is None:
            return f"row {number} (the first is row 0)"
        if not self.parts:
            return f"line {self.lines[row]}"
        part = self.parts[bisect_right([part.first for part in self.parts], number) - 1]
        return f"line {self.lines[row]} of {part.name}"


def _filtered(arrow: pa.Table, is_kept: np.ndarray) -> Iterator[pa.RecordBatch]:
    start = 0
    for batch in arrow.to_batches():
        yield batch.filter(pa.array(is_kept[start : start + batch.num_rows]))
        start += batch.num_rows


def first_place(is_bad: np.ndarray, place: Callable[[int], str]) -> str:
    """Return the place of the first bad row, and in how many more rows it is so; `is_bad` [rows] marks one at least."""
    count, first = int(is_bad.sum()), int(np.flatnonzero(is_bad)[0])
    return f"{place(first)} and in {count - 1} more rows" if count > 1 else place(first)


def read(path: Path, storage: Memory = MEMORY) -> RawTable:
    """Read the file at `path`, the parts in a folder, or those that a pattern matches; `storage` keeps the values.

    TableError says in one sentence why a table cannot be used.
    """
    try:
        table = _read(path, parts_of(path), storage)
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


def _read(path: Path, parts: Parts, storage: Memory) -> RawTable:
    if not parts.format.needs_pyarrow:
        return _text(path, parts, storage)
    if path.is_file() and path.stat().st_size == 0:
        raise TableError(f"{path} is empty.")
    arrow = _typed(path, parts, storage)
    return RawTable(path, arrow, _sha256(path, parts), index=index_names(arrow.schema.metadata))


def _typed(path: Path, parts: Parts, storage: Memory) -> pa.Table:
    """Read a table of typed columns block by block."""
    if not path.is_file():
        # pyarrow's part for folders takes long to load
        from batchproof.service.tables.readers.parquet_folder import folder_dataset, folder_parts

        dataset = folder_dataset(parts.folder, parts.files)
        named = folder_parts(parts.folder, dataset, batch_size=BATCH_ROWS, batch_readahead=1)
        return _kept(chain.from_iterable(batches for _, batches in named), dataset.schema, storage)
    if parts.format == PARQUET:
        with parquet.ParquetFile(path, **PARQUET_OPTIONS) as file:
            batches = as_many(file.iter_batches(BATCH_ROWS), file.metadata.num_rows)
            return _kept(batches, file.schema_arrow, storage)
    source, fmt = open_source(path)
    assert fmt in (ARROW_FILE, ARROW_STREAM), "other formats are read elsewhere"
    with source, pa.ipc.open_file(source) if fmt == ARROW_FILE else pa.ipc.open_stream(source) as reader:
        if fmt == ARROW_STREAM:
            return _kept(to_the_end(reader, source), reader.schema, storage)
        return _kept(map(reader.get_batch, range(reader.num_record_batches)), reader.schema, storage)


def _kept(batches: Iterable[pa.RecordBatch], schema: pa.Schema, storage: Memory) -> pa.Table:
    return pa.Table.from_batches(map(storage.keep, batches), schema)


def _text(path: Path, parts: Parts, storage: Memory) -> RawTable:
    """Read text tables or JSON Lines, one file after another; an empty part among several has no rows."""
    table = JsonTable(storage) if parts.format == LINES else TextTable(parts.format, storage)
    places, empty, several = [], [], len(parts.files) > 1
    for file, name in zip(parts.files, parts.names, strict=True):
        if file.stat().st_size == 0:
            empty.append(f"{name} is empty: no row is read from it.")
            continue
        places.append(Part(name, table.rows))
        try:
            table.add(file, f" of {name}" if several else "")
        except ServiceError as error:
            raise TableError(behind(file, error.message)) from error
    if not places:
        raise TableError(f"{path} is empty.")
    return RawTable(
        path,
        table.arrow(),
        _sha256(path, parts),
        is_text=parts.format != LINES,
        lines=table.lines,
        unusable=table.unusable,
        warnings=(*empty, *table.warnings),
        parts=places if several else (),
    )


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


def _sha256(path: Path, parts: Parts) -> str:
    """Return the SHA-256 of a file; of a folder or a pattern, that of its files' in hexadecimal digits, one after another."""
    digests = []
    for file in parts.files:
        with file.open("rb") as opened:
            digests.append(hashlib.file_digest(opened, "sha256").hexdigest())
    return digests[0] if path.is_file() else hashlib.sha256("".join(digests).encode()).hexdigest()
