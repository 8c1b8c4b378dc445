"""JSON Lines: an object a line, or a list in signature order. Blank lines are ignored."""

import codecs
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, BinaryIO

import orjson

from batchproof.service.errors import ServiceError
from batchproof.service.features.arrays import Arrays
from batchproof.service.features.row_encoder import Problem
from batchproof.service.features.texts.csv_records import encoding_advice
from batchproof.service.protocols.json_text.fast_rows import FastRows
from batchproof.service.protocols.json_text.json_body import repeated_key
from batchproof.service.runtime.json_bytes import compact
from batchproof.service.tables.block import Blocks, Read, Reading
from batchproof.service.tables.readers.cells import arrow_column, cell_of
from batchproof.service.tables.readers.json_lines_columns import LineColumns

MAX_LINE_BYTES = 1 << 20


class LinesBlock:
    """A block of lines. Extra keys are copied to the answer, as columns if the answer has columns."""

    csv_delimiter = ","

    def __init__(self, table: "LinesTable", numbered: Sequence[tuple[int, bytes]]) -> None:
        """Hold the lines and their numbers, the first line's is 1."""
        self._table = table
        self._numbers = [number for number, _ in numbered]
        self._lines = [line for _, line in numbered]
        self._unreadable: frozenset[int] = frozenset()  # rows whose line is not JSON, or has a key twice
        self.rows = len(numbered)
        table.columns.begin(map(table.named, self._lines))

    def read(self) -> Read:
        """Return the rows as arrays; rows that the fast reader does not accept are read one by one."""
        arrays = self._table.fast(self._lines) if self._lines else None
        if arrays is not None and self._table.are_distinct(self._lines):
            return Read(arrays, range(self.rows), ())
        result, self._unreadable = self._table.precise(self._lines)
        return result

    def place(self, row: int) -> tuple[str, int]:
        """Return the row's line."""
        return self._table.counts, self._numbers[row]

    def names(self) -> Sequence[str]:
        """Return the names that the first line gave, those of all features among them."""
        return self._table.columns.names

    def cells(self) -> Sequence[Sequence[str]]:
        """Return the values as text; raises 422 for a key without a column."""
        return [[cell_of(row.get(name)) for name in self.names()] for row in self._rows()]

    def csv_lines(self, _delimiter: str) -> None:
        """Return None: the rows are no CSV yet."""

    def lines(self) -> Sequence[bytes]:
        """Return the lines unchanged, but lists as objects; an unreadable line becomes an empty object."""
        return [
            line if line.startswith(b"{") and line.endswith(b"}") else compact(self._table.named(line))
            for line in self._readable()
        ]

    def batch(self) -> Any:
        """Return the features' values with their types, and text for all others; raises 422 for a key without a column."""
        import pyarrow as pa

        rows = self._rows()
        features = {feature.name: feature for feature in self._table.reading.signature.inputs}
        arrays = []
        for name in self.names():
            values = [row.get(name) for row in rows]
            arrays.append(arrow_column(features[name], values) if name in features else pa.array(values, pa.string()))
        return pa.RecordBatch.from_arrays(arrays, names=list(self.names()))

    def _rows(self) -> list[Mapping[str, Any]]:
        """Return each line's values by column, as text where it is not a feature; raises 422 for a key without a column."""
        named, columns = self._table.named, self._table.columns
        return [columns.row(line, named(line), self.place(row)) for row, line in enumerate(self._readable())]

    def _readable(self) -> Sequence[bytes]:
        if not self._unreadable:
            return self._lines
        return [b"{}" if row in self._unreadable else line for row, line in enumerate(self._lines)]


class LinesTable:
    """What all blocks of one table share."""

    def __init__(self, reading: Reading, counts: str = "line") -> None:
        """Prepare the fast reading; places are of the `line` or `row` that a block counts."""
        self.reading = reading
        self.counts = counts
        self._ignores_extra = reading.parameters.extra == "ignore"
        self._known = frozenset(reading.encoder.names)
        self.columns = LineColumns(reading)
        rows = FastRows(reading.signature)
        self.fast: Callable[[Sequence[bytes]], Arrays | None] = rows.lines(ignore_extra=self._ignores_extra)

    def precise(self, lines: Sequence[bytes]) -> tuple[Read, frozenset[int]]:
        """Read line by line; the second value names the rows whose line is not JSON, or has a key twice."""
        rows, broken = [], []
        for number, line in enumerate(lines):
            row, fault = self._parsed(line)
            rows.append(row)
            if fault is not None:
                broken.append(Problem(number, None, fault))
        encoded = self.reading.encoder.encode_rows(rows, None, None)
        numbers = frozenset(problem.row or 0 for problem in broken)
        problems = [problem for problem in encoded.errors if problem.row not in numbers]
        result = Read(encoded.arrays, encoded.kept, sorted([*problems, *broken], key=lambda problem: problem.row or 0))
        return result, numbers

    def are_distinct(self, lines: Sequence[bytes]) -> bool:
        """Return whether no line that the fast reading took, an object with every feature, has a key twice.

        The fast reading skips extra columns, invalid text in them included: such a line is read again too.
        """
        width = len(self._known)  # a line with no more keys than that hides none, and is not read again
        return all(
            line.count(b":") == width or _most_keys(line) == width or self._parsed(line)[1] is None for line in lines
        )

    def _parsed(self, line: bytes) -> tuple[Any, str | None]:
        """Return the row of a line without its extra columns, or None and what is wrong with it."""
        row, fault = parsed_line(line)
        return self._less_extra(row), fault

    def named(self, line: bytes) -> dict[str, Any]:
        """Return a line as an object; a line that is not one becomes an empty object."""
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            return {}
        if isinstance(row, list):
            return dict(zip(self.reading.encoder.names, row, strict=False))
        return row if isinstance(row, dict) else {}

    def _less_extra(self, row: Any) -> Any:
        if not isinstance(row, dict) or row.keys() <= self._known:
            return row
        return {name: value for name, value in row.items() if name in self._known} if self._ignores_extra else row


def parsed_line(line: bytes) -> tuple[Any, str | None]:
    """Return the JSON value of a line, or None and what is wrong with it: no JSON, or a key twice in one object."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return None, _unreadable(line, error)
    keys = len(row) if isinstance(row, dict) else 0
    key = None if _most_keys(line) == keys else repeated_key(line, keys)
    if key is not None:
        return None, f"the key {key!r:.200} is given twice in one object"
    return row, None


def _most_keys(line: bytes) -> int:
    """Return how many keys a line of JSON can have: each ends in a quote, and a colon, maybe after white space."""
    return sum(map(line.count, (b'":', b" :", b"\t:", b"\r:")))


def _unreadable(line: bytes, error: ValueError) -> str:
    """Return why a line is not JSON."""
    try:
        line.decode()
    except UnicodeDecodeError as fault:
        return f"the line is not UTF-8 (byte 0x{line[fault.start]:02x}): {encoding_advice(line)}"
    return f"the line is not JSON: {error}"


def line_blocks(file: BinaryIO, reading: Reading) -> Blocks:
    """Read JSON Lines; raises 400 for a line that is too long."""
    table = LinesTable(reading)
    numbered = numbered_lines(file)
    while lines_of_block := list(islice(numbered, reading.block_rows)):
        yield LinesBlock(table, lines_of_block)


def numbered_lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, without blanks around them, and their numbers; raises 400 for one too long."""
    number = 0
    while line := file.readline(MAX_LINE_BYTES):
        number += 1
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if len(line) == MAX_LINE_BYTES:
            raise ServiceError(400, "broken_json", f"Line {number} has more than {MAX_LINE_BYTES - 1} bytes.")
        if stripped := line.strip():
            yield number, stripped
