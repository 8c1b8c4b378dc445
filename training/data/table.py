"""A file of rows, read: CSV, TSV, Parquet or Arrow to one Arrow table with distinct column names and a checksum."""

import hashlib
import re
from codecs import getincrementaldecoder
from collections import deque
from csv import Error as LongCellError
from csv import reader
from dataclasses import dataclass
from io import BufferedReader, BytesIO, TextIOWrapper
from pathlib import Path

import pyarrow as pa
from pyarrow import csv, feather, parquet

from batchproof.service.errors import ServiceError, behind, closest, first_line
from batchproof.service.features.encoder import listed
from batchproof.service.features.text_cells import MISSING
from batchproof.service.tables.readers.csv_records import MAX_LINE_BYTES, SIGNS, Records

DELIMITERS = {".csv": SIGNS, ".tsv": "\t", ".tab": "\t", ".txt": "\t,;|"}  # the commonest in the header wins
PART_BYTES = 1 << 20  # of a text that is looked through
PARQUET = (".parquet", ".pq")
ARROW = (".arrow", ".feather", ".ipc")

RAGGED = re.compile(r"CSV parse error: (?:Row #\d+: )?Expected (\d+) columns, got (\d+)")  # what Arrow says of it


class TableError(ValueError):
    """A table that cannot be trained on; the message is one sentence for its owner."""


@dataclass(frozen=True)
class RawTable:
    """A file as it was read: nothing is decided about its columns."""

    path: Path
    arrow: pa.Table
    sha256: str  # of the file

    @property
    def names(self) -> list[str]:
        """The column names, in file order."""
        return list(self.arrow.column_names)


def read(path: Path) -> RawTable:
    """Read the file at `path`; TableError says in one sentence why it cannot be used."""
    if not path.is_file():
        raise TableError(f"there is no file {path}.")
    if path.stat().st_size == 0:
        raise TableError(f"{path} is empty.")
    try:
        arrow = _arrow(path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise TableError(f"{path} cannot be read: {first_line(error)}.") from error
    _check(path, arrow)
    return RawTable(path, arrow, _sha256(path))


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


def _arrow(path: Path) -> pa.Table:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    kind = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else (suffixes or [""])[-1]
    if kind in PARQUET:
        return parquet.read_table(path)
    if kind in ARROW:
        return _stream_or_file(path)
    if kind in DELIMITERS:
        return _text(path, DELIMITERS[kind])
    known = ", ".join([*DELIMITERS, *PARQUET, *ARROW])
    raise TableError(f"{path} has the ending {kind or '(none)'!r}: tables end in one of {known}.")


def _stream_or_file(path: Path) -> pa.Table:
    with path.open("rb") as file:
        is_file = file.read(6) == b"ARROW1"
    if is_file:
        return feather.read_table(path)
    with pa.OSFile(str(path)) as source, pa.ipc.open_stream(source) as reader:
        return reader.read_all()


def _text(path: Path, signs: str) -> pa.Table:
    _check_utf8(path, signs)
    with _opened(path) as file:
        delimiter = Records(BytesIO(file.read(MAX_LINE_BYTES - 1)), signs).delimiter
    # No invalid_row_handler: one of Arrow's threads lets go of it, at times when Python has ended, which aborts.
    parsing = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    ways = {"null_values": sorted(MISSING), "strings_can_be_null": True}
    try:
        found = csv.read_csv(path, parse_options=parsing, convert_options=csv.ConvertOptions(**ways))
        times = {field.name: pa.string() for field in found.schema if pa.types.is_time(field.type)}
        if not times:
            return found
        # A time of day is a category: the text that serving reads, 12:30, and not 12:30:00.
        return csv.read_csv(path, parse_options=parsing, convert_options=csv.ConvertOptions(column_types=times, **ways))
    except pa.ArrowInvalid as error:
        if counts := RAGGED.match(str(error)):
            raise _ragged(path, delimiter, *map(int, counts.groups())) from error
        raise


def _opened(path: Path) -> BufferedReader:
    """Open a file, unpacked where it is packed."""
    return BufferedReader(pa.input_stream(str(path), compression="detect"))


def _check_utf8(path: Path, signs: str) -> None:
    """Refuse bytes that are no text, in the service's words: its reader knows their line and column."""
    decoder = getincrementaldecoder("utf-8")()
    try:
        with _opened(path) as file:
            while part := file.read(PART_BYTES):
                decoder.decode(part)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        try:
            with _opened(path) as file:
                deque(Records(file, signs), maxlen=0)
        except ServiceError as refusal:
            raise TableError(behind(path, refusal.message)) from error


def _ragged(path: Path, delimiter: str, columns: int, cells: int) -> TableError:
    """Return the refusal of a row of other length: its line and the counts, and none of its values."""
    line = _first_line_unlike(path, delimiter, columns)
    return TableError(f"line {line} of {path} has {cells} cells, but there are {columns} columns.")


def _first_line_unlike(path: Path, delimiter: str, columns: int) -> int:
    """Return where the first record of other than so many cells begins; empty lines and quoted line ends count."""
    with _opened(path) as file:
        records = reader(TextIOWrapper(file, encoding="utf-8", errors="replace", newline=""), delimiter=delimiter)
        line = 1
        try:
            for cells in records:
                if cells and len(cells) != columns:
                    return line
                line = records.line_num + 1
        except LongCellError:  # the reader gives up on a cell of 128 KiB: the fault is there or below
            return line
    return line


def _check(path: Path, arrow: pa.Table) -> None:
    names = arrow.column_names
    for number, name in enumerate(names, 1):
        if names.count(name) > 1:
            raise TableError(f"{path} has {names.count(name)} columns named {name!r}: give each its own name.")
        if len(name) > 1000:
            raise TableError(f"column {number} of {path} has a name of {len(name)} characters: 1000 are the most.")
    if arrow.num_rows == 0:
        raise TableError(f"{path} has a header but no rows.")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
