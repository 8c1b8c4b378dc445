"""JSON Lines to columns: an object a line, all with the same keys, and one type of values a key."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from batchproof.service.tables.offline.sources import open_source
from batchproof.service.tables.readers.json_lines import numbered_lines, parsed_line
from batchproof.training.data.tables.lines import LinesTable
from batchproof.training.data.tables.storage import Memory
from batchproof.training.data.tables.table_error import TableError

NESTED = pa.struct([])
WORDS = {bool: "true or false", int: "numbers", float: "numbers", str: "texts"}


class JsonTable(LinesTable):
    """The rows of files of JSON Lines; the first line names the columns."""

    def __init__(self, storage: Memory) -> None:
        """Hold no rows; their values will be kept in `storage`."""
        super().__init__(storage)
        self._columns: dict[str, _Column] = {}

    @property
    def unusable(self) -> dict[str, str]:
        """The columns without a type, and why."""
        return {name: reason for name, column in self._columns.items() if (reason := column.mixture())}

    def arrow(self) -> pa.Table:
        """Return the values, column by column."""
        return pa.table({name: column.arrow() for name, column in self._columns.items()})

    def add(self, path: Path, where: str = "") -> None:  # noqa: ARG002 - no line of JSON is doubtful
        """Add every line of a file.

        Raises TableError for a line that is not an object, or has other keys than the first one: scoring refuses a line
        without one of its features, so that a misspelt key is noticed; so does training. ServiceError for a line too long.
        """
        file, _ = open_source(path)
        with file:
            for block in self._blocks(self._rows(path, numbered_lines(file))):
                arrays = {name: column.typed([row[name] for _, row in block]) for name, column in self._columns.items()}
                kept = self._storage.keep(pa.RecordBatch.from_pydict(arrays))
                for column, array in zip(self._columns.values(), kept.columns, strict=True):
                    column.add(array)

    def _rows(self, path: Path, lines: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, dict[str, Any]]]:
        for line, raw in lines:
            row, fault = parsed_line(raw)
            if fault is None and not isinstance(row, dict):
                fault = "a line is an object {column: value}"
            if fault is not None:
                raise TableError(f"line {line} of {path}: {fault}.")
            if self._first is None:
                self._first, self._columns = path, {name: _Column() for name in row}
            self._check_keys(path, line, row)
            yield line, row

    def _check_keys(self, path: Path, line: int, row: dict[str, Any]) -> None:
        missing = next((name for name in self._columns if name not in row), None)
        if missing is not None:
            raise TableError(f"line {line} of {path} has no key {missing!r}: write null where a value is missing.")
        extra = next((name for name in row if name not in self._columns), None)
        if extra is not None:
            first = "the first line" if path == self._first else f"the first line of {self._first}"
            raise TableError(f"line {line} of {path} has the key {extra!r}, which {first} lacks: write null there.")


class _Column:
    """The values of one key: Arrow arrays of blocks, whose type the last block may still change."""

    def __init__(self) -> None:
        self._kinds: set[type] = set()  # of values other than null
        self._blocks: list[pa.Array] = []

    def typed(self, values: list[Any]) -> pa.Array:
        """Return a block of values with the type that fits these."""
        kinds = {type(value) for value in values} - {type(None)}
        self._kinds |= kinds
        return _array(values, kinds)

    def add(self, block: pa.Array) -> None:
        """Append a block that `typed` returned."""
        self._blocks.append(block)

    def mixture(self) -> str | None:
        """Return why values are not of one type, or None."""
        words = _words(self._kinds)
        return f"it holds {' and '.join(words)}" if len(words) > 1 and self._kinds <= WORDS.keys() else None

    def arrow(self) -> pa.ChunkedArray:
        """Return all values with one type, that of nested values where they have none."""
        if not self._kinds <= WORDS.keys() or len(_words(self._kinds)) > 1:
            rows = sum(map(len, self._blocks))
            return pa.chunked_array([pa.array([{}] * rows, NESTED)])
        types = {block.type for block in self._blocks} - {pa.null()}
        kind = pa.float64() if len(types) > 1 else next(iter(types), pa.null())
        return pa.chunked_array([block.cast(kind, safe=False) for block in self._blocks], kind)


def _words(kinds: set[type]) -> list[str]:
    return sorted({WORDS[kind] for kind in kinds if kind in WORDS})


def _array(values: list[Any], kinds: set[type]) -> pa.Array:
    """Return a block's values; nulls where they are not of one type, and so neither is their column."""
    if not kinds <= WORDS.keys() or len(_words(kinds)) > 1:
        return pa.nulls(len(values))
    if kinds <= {int, float} and kinds:
        is_whole = float not in kinds and all(value is None or -(1 << 63) <= value < 1 << 63 for value in values)
        return pa.array(values if is_whole else _floats(values), pa.int64() if is_whole else pa.float64())
    return pa.array(values)


def _floats(values: list[Any]) -> list[float | None]:
    return [None if value is None else float(value) for value in values]
