"""CSV and TSV: a header that names the columns, in any order, and a line a row. UTF-8, with or without a mark."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from batchproof.service.bundle.signature import Feature
from batchproof.service.features.columns import encode_cells, encode_lines, reads_numbers
from batchproof.service.features.row_encoder import Problem
from batchproof.service.features.texts.csv_records import Plain, Record, Records, column_names
from batchproof.service.features.texts.text_cells import reader_of
from batchproof.service.runtime.json_bytes import compact
from batchproof.service.tables.block import Blocks, Column, Read, Reading, invalid_table, places_of, read_columns
from batchproof.service.tables.readers.cells import arrow_column, json_of

if TYPE_CHECKING:
    from batchproof.service.tables.readers.arrow_lines import ArrowLines


class TextBlock:
    """Records of a text table."""

    def __init__(self, table: "TextTable", records: Sequence[Record] | Plain) -> None:
        """Hold records of the parser, or lines that need none."""
        self._table = table
        self._plain = records if isinstance(records, Plain) else None
        if isinstance(records, Plain):
            self._lines: Sequence[int] = range(records.first, records.first + records.rows)
        else:
            self._records = [cells for _, cells in records]
            self._lines = [line for line, _ in records]
        self.rows = len(self._lines)
        self.csv_delimiter = table.csv_delimiter

    @cached_property
    def _records(self) -> list[list[str]]:
        return [line.split(self._table.delimiter) for line in self._plain.lines] if self._plain else []

    @cached_property
    def _encoders(self) -> "Sequence[Callable[[], np.ndarray]] | None":
        """What encodes each feature's column; None where Arrow does not read the lines, or they are not for it."""
        arrow = self._table.arrow
        return arrow.encoders(self._plain.text, self.rows) if arrow is not None and self._plain else None

    @cached_property
    def _numbers(self) -> np.ndarray | None:
        """The cells of all columns, [rows, columns] float64; None where they must be read column by column."""
        table = self._table
        return encode_lines(self._plain.lines, len(table.header)) if self._plain and table.is_numeric else None

    @cached_property
    def _is_ragged(self) -> bool:
        if self._encoders is not None or self._numbers is not None:  # read with the header's width
            return False
        return not {len(self._table.header)}.issuperset(map(len, self._records))

    def read(self) -> Read:
        """Return the rows as arrays."""
        table, width = self._table, len(self._table.header)
        if self._encoders is not None:
            columns = [
                Column(encode, partial(self._values, place, take))
                for encode, place, take in zip(self._encoders, table.places, table.takes, strict=True)
            ]
            return read_columns(table.reading.signature, self.rows, columns)
        if self._numbers is not None:
            columns = [Column(partial(self._numbers.__getitem__, (slice(None), place)), list) for place in table.places]
            return read_columns(table.reading.signature, self.rows, columns)
        ragged = [row for row, record in enumerate(self._records) if len(record) != width] if self._is_ragged else []
        columns = self._columns()
        result = read_columns(table.reading.signature, self.rows, columns, ragged)
        if not ragged:
            return result
        wrong = [
            Problem(row, None, f"the line has {len(self._records[row])} cells, but there are {width} columns")
            for row in ragged
        ]
        return Read(
            result.arrays, result.kept, sorted([*result.problems, *wrong], key=lambda problem: problem.row or 0)
        )

    def _columns(self) -> list[Column]:
        table = self._table
        columns = list(zip(*self.cells(), strict=True)) if self.rows else [()] * len(table.header)
        features = zip(table.reading.signature.inputs, table.takes, table.places, strict=True)
        return [_column(feature, take, columns[place]) for feature, take, place in features]

    def _values(self, place: int, take: Callable[[str], Any]) -> list[Any]:
        return [take(record[place]) for record in self._records]

    def place(self, row: int) -> tuple[str, int]:
        """Return the line that the row begins at; the header's is 1."""
        return "line", self._lines[row]

    def names(self) -> Sequence[str]:
        """Return the header."""
        return self._table.header

    def cells(self) -> Sequence[Sequence[str]]:
        """Return the records, ragged ones cut or filled up to the header's length."""
        if not self._is_ragged:
            return self._records
        width = len(self._table.header)
        return [record if len(record) == width else (record + [""] * width)[:width] for record in self._records]

    def csv_lines(self, delimiter: str) -> Sequence[bytes] | None:
        """Return the rows as they stand in the table, if they are right as they are where `delimiter` separates cells."""
        if self._plain is None or delimiter != self._table.delimiter or self._is_ragged:
            return None
        return self._plain.text.split(b"\n")[:-1]

    def lines(self) -> Sequence[bytes]:
        """Return each row as a JSON object; other columns stay text."""
        header, takes = self._table.header, self._table.all_takes
        return [
            compact({name: json_of(take, cell) for name, take, cell in zip(header, takes, record, strict=True)})
            for record in self.cells()
        ]

    def batch(self) -> Any:
        """Return the rows with the features' types; other columns stay text."""
        import pyarrow as pa

        table = self._table
        features = {feature.name: feature for feature in table.reading.signature.inputs}
        columns = zip(*self.cells(), strict=True) if self.rows else [()] * len(table.header)
        arrays = []
        for name, take, column in zip(table.names, table.all_takes, columns, strict=True):
            if name in features:
                arrays.append(arrow_column(features[name], [take(cell) for cell in column]))
            else:
                arrays.append(pa.array(column, pa.string()))
        return pa.RecordBatch.from_arrays(arrays, names=list(table.header))


class TextTable:
    """What all blocks of one text table share."""

    def __init__(self, header: list[str], reading: Reading, delimiter: str, csv_delimiter: str) -> None:
        """Find the features among the header's names; raises 422."""
        self.header = header
        self.delimiter = delimiter
        self.csv_delimiter = csv_delimiter
        self.reading = reading
        self.names = column_names(header, reading.encoder.names)
        self.places = places_of(self.names, reading)
        # All cells of a line are read at once, so other columns must be numbers too.
        self.is_numeric = delimiter == "," and all(map(reads_numbers, reading.signature.inputs))
        takes = {feature.name: reader_of(feature) for feature in reading.signature.inputs}
        self.takes = [takes[name] for name in reading.encoder.names]
        self.all_takes: list[Callable[[str], Any]] = [takes.get(name, str) for name in self.names]
        self.arrow: ArrowLines | None = None  # what parses plain lines, where pyarrow does

    def load_arrow(self) -> None:
        """Let pyarrow parse plain lines, where the reading says so: it takes .1 s to load, too long for a short table."""
        if not self.reading.by_arrow:
            return
        try:
            from batchproof.service.tables.readers.arrow_lines import ArrowLines, Source
        except ImportError:  # tables of text do without it
            return
        sources = zip(self.reading.signature.inputs, self.places, self.takes, strict=True)
        self.arrow = ArrowLines([Source(*source) for source in sources], len(self.header), self.delimiter)


def text_blocks(file: BinaryIO, reading: Reading, signs: str) -> Blocks:
    """Read a text table whose cells one of `signs` separates; raises 400 for broken text and 422 for a header that does not fit."""
    records = Records(file, signs)
    rows = iter(records)
    first = next(rows, None)
    if first is None:
        raise invalid_table("The table is empty: its first line must name the columns.")
    _, header = first
    _check_separated(header, reading, signs)
    table = TextTable(header, reading, records.delimiter, records.delimiter if len(signs) > 1 else ",")
    block = _block(table, records, rows)
    if block.rows == reading.block_rows:
        table.load_arrow()
    yield block  # no row is a block too
    while block.rows and (block := _block(table, records, rows)).rows:
        yield block


def _block(table: TextTable, records: Records, rows: Iterator[Record]) -> TextBlock:
    """Return the next rows; none at the end."""
    most = table.reading.block_rows
    return TextBlock(table, records.plain(most) or list(islice(rows, most)))


def _check_separated(header: Sequence[str], reading: Reading, signs: str) -> None:
    """Raise 422 for a header with another separator: it looks like one long name."""
    names = reading.encoder.names
    if len(header) == 1 < len(names) and header[0] not in names:
        known = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
        wanted = " or ".join(known[sign] for sign in signs)
        raise invalid_table(
            f"The table has one column, {header[0]!r:.200}: column names must be separated by {wanted}."
        )


def _column(feature: Feature, take: Callable[[str], Any], cells: Sequence[str]) -> Column:
    return Column(partial(encode_cells, feature, take, cells), lambda: [take(cell) for cell in cells])
