"""CSV and TSV: a header that names the columns, in any order, and a line a row. UTF-8, with or without a mark."""

import csv
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count, islice
from typing import Any, BinaryIO

import numpy as np
import orjson

from service.columns import encode_column
from service.errors import ServiceError
from service.features import Problem
from service.manifest import Feature
from service.tables.block import Blocks, Column, Read, Reading, invalid_table, places_of, read_columns
from service.tables.cells import arrow_column
from service.texts import reader_of

MAX_LINE_BYTES = 1 << 20


class TextBlock:
    """Records of a text table."""

    def __init__(self, table: "TextTable", records: list[list[str]], lines: list[int]) -> None:
        """Hold records and the line that each begins at."""
        self._table = table
        self._records = records
        self._lines = lines
        self.rows = len(records)

    def read(self) -> Read:
        """Return the rows as arrays."""
        table, width = self._table, len(self._table.header)
        ragged = [row for row, record in enumerate(self._records) if len(record) != width]
        columns = list(zip(*self.cells(), strict=True)) if self._records else [()] * width
        features = zip(table.reading.signature.inputs, table.takes, table.places, strict=True)
        prepared = [_column(feature, take, columns[place]) for feature, take, place in features]
        found = read_columns(table.reading.signature, self.rows, prepared, ragged)
        if not ragged:
            return found
        wrong = [
            Problem(row, None, f"the line has {len(self._records[row])} cells, but there are {width} columns")
            for row in ragged
        ]
        return Read(found.arrays, found.kept, sorted([*found.problems, *wrong], key=lambda one: one.row or 0))

    def place(self, row: int) -> tuple[str, int]:
        """Return the line that the row begins at; the header's is 1."""
        return "line", self._lines[row]

    def names(self) -> Sequence[str]:
        """Return the header."""
        return self._table.header

    def cells(self) -> Sequence[Sequence[str]]:
        """Return the records, ragged ones cut or filled up to the header's length."""
        width = len(self._table.header)
        return [record if len(record) == width else (record + [""] * width)[:width] for record in self._records]

    def lines(self) -> Sequence[bytes]:
        """Return each row as a JSON object; columns that are no features stay text."""
        header, takes = self._table.header, self._table.all_takes
        return [
            orjson.dumps({name: take(cell) for name, take, cell in zip(header, takes, record, strict=True)})
            for record in self.cells()
        ]

    def batch(self) -> Any:
        """Return the rows with the features' types; columns that are no features stay text."""
        import pyarrow as pa

        table = self._table
        features = {feature.name: feature for feature in table.reading.signature.inputs}
        columns = zip(*self.cells(), strict=True) if self._records else [()] * len(table.header)
        arrays = []
        for name, take, column in zip(table.header, table.all_takes, columns, strict=True):
            if name in features:
                arrays.append(arrow_column(features[name], [take(cell) for cell in column]))
            else:
                arrays.append(pa.array(column, pa.string()))
        return pa.RecordBatch.from_arrays(arrays, names=list(table.header))


class TextTable:
    """What all blocks of one text table share."""

    def __init__(self, header: list[str], reading: Reading) -> None:
        """Find the features among the header's names; raises 422."""
        self.header = header
        self.reading = reading
        self.places = places_of(header, reading)
        takes = {feature.name: reader_of(feature) for feature in reading.signature.inputs}
        self.takes = [takes[name] for name in reading.encoder.names]
        self.all_takes: list[Callable[[str], Any]] = [takes.get(name, str) for name in header]


def text_blocks(file: BinaryIO, reading: Reading, delimiter: str) -> Blocks:
    """Read a text table; raises 400 for broken text and 422 for a header that does not fit."""
    records = csv.reader(_lines(file), delimiter=delimiter, strict=True)
    numbered = _numbered(records)
    first = next(numbered, None)
    if first is None:
        raise invalid_table("The table is empty: its first line must name the columns.")
    table = TextTable(first[1], reading)
    found = _take(numbered, reading.block_rows)
    yield TextBlock(table, [record for _, record in found], [line for line, _ in found])  # no row is a block too
    while found := _take(numbered, reading.block_rows):
        yield TextBlock(table, [record for _, record in found], [line for line, _ in found])


def _lines(file: BinaryIO) -> Iterator[str]:
    encoding = "utf-8-sig"  # a byte order mark stands at most before the first line
    for number in count(1):
        line = file.readline(MAX_LINE_BYTES)
        if not line:
            return
        if len(line) == MAX_LINE_BYTES:
            raise _broken(number, f"a line has more than {MAX_LINE_BYTES - 1} bytes")
        try:
            text = line.decode(encoding)
        except UnicodeDecodeError as error:
            raise _broken(number, str(error)) from error
        yield text
        encoding = "utf-8"


def _numbered(records: Any) -> Iterator[tuple[int, list[str]]]:
    """Yield the records that are not blank, each with the line that it begins at."""
    before = 0
    try:
        for record in records:
            if record:
                yield before + 1, record
            before = records.line_num
    except csv.Error as error:
        raise _broken(before + 1, str(error)) from error


def _broken(line: int, why: str) -> ServiceError:
    return ServiceError(400, "broken_csv", f"Line {line} is not CSV in UTF-8: {why}.")


def _take(numbered: Iterator[tuple[int, list[str]]], rows: int) -> list[tuple[int, list[str]]]:
    return list(islice(numbered, rows))


def _column(feature: Feature, take: Callable[[str], Any], cells: Sequence[str]) -> Column:
    is_number = feature.kind == "numeric" and feature.value_type != "boolean"
    return Column(
        partial(_numbers if is_number else _distinct, feature, take, cells), lambda: [take(cell) for cell in cells]
    )


def _numbers(feature: Feature, take: Callable[[str], Any], cells: Sequence[str]) -> np.ndarray:
    """Encode plain numbers at once and all others one by one, [rows] float64. Raises FeatureError."""
    try:
        numbers = np.fromiter(map(float, cells), np.float64, len(cells))
    except ValueError:  # a missing value, or no number
        return encode_column(feature, [take(cell) for cell in cells])
    if not np.isfinite(numbers).all() or any("_" in cell for cell in cells):
        return encode_column(feature, [take(cell) for cell in cells])
    return numbers


def _distinct(feature: Feature, take: Callable[[str], Any], cells: Sequence[str]) -> np.ndarray:
    """Encode cells of which many are equal, [rows] float64: each distinct one once. Raises FeatureError."""
    found = list(dict.fromkeys(cells))
    codes = dict(zip(found, encode_column(feature, [take(cell) for cell in found]).tolist(), strict=True))
    return np.fromiter(map(codes.__getitem__, cells), np.float64, len(cells))
