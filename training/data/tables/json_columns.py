"""JSON Lines to columns: an object a line, all with the same keys, and one type of values a key."""

from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa

from batchproof.service.tables.readers.json_lines import numbered_lines, parsed_line
from batchproof.training.data.tables.table_error import TableError

NESTED = pa.struct([])
WORDS = {bool: "true or false", int: "numbers", float: "numbers", str: "texts"}


class JsonColumns(NamedTuple):
    """The columns of a file."""

    arrow: pa.Table
    lines: list[int]  # of each row
    unusable: dict[str, str]  # column -> why it has no type


def read_columns(path: Path, file: BinaryIO) -> JsonColumns:
    """Read every line; raises TableError for a line that is not an object, or has other keys than the first one.

    Scoring refuses a line without one of its features, so that a misspelt key is noticed; so does training.
    """
    lines: list[int] = []
    values: dict[str, list[Any]] = {}
    for line, raw in numbered_lines(file):
        row, fault = parsed_line(raw)
        if fault is None and not isinstance(row, dict):
            fault = "a line is an object {column: value}"
        if fault is not None:
            raise TableError(f"line {line} of {path}: {fault}.")
        if not lines:
            values = {name: [] for name in row}
        _check_keys(path, line, row, values)
        lines.append(line)
        for name, column in values.items():
            column.append(row[name])
    unusable = {name: reason for name, column in values.items() if (reason := _mixture(column))}
    arrays = [_array(column, is_usable=name not in unusable) for name, column in values.items()]
    return JsonColumns(pa.Table.from_arrays(arrays, names=list(values)), lines, unusable)


def _check_keys(path: Path, line: int, row: dict[str, Any], values: dict[str, list[Any]]) -> None:
    missing = next((name for name in values if name not in row), None)
    if missing is not None:
        raise TableError(f"line {line} of {path} has no key {missing!r}: write null where a value is missing.")
    extra = next((name for name in row if name not in values), None)
    if extra is not None:
        raise TableError(f"line {line} of {path} has the key {extra!r}, which the first line lacks: write null there.")


def _mixture(values: list[Any]) -> str | None:
    """Return why values are not of one type, or None."""
    kinds = {type(value) for value in values} - {type(None)}
    words = sorted({WORDS[kind] for kind in kinds if kind in WORDS})
    return f"it holds {' and '.join(words)}" if len(words) > 1 and kinds <= WORDS.keys() else None


def _array(values: list[Any], *, is_usable: bool) -> pa.Array:
    kinds = {type(value) for value in values} - {type(None)}
    if not is_usable or not kinds <= WORDS.keys():
        return pa.array([{}] * len(values), NESTED)
    if kinds <= {int, float} and kinds:
        is_whole = float not in kinds and all(value is None or -(1 << 63) <= value < 1 << 63 for value in values)
        return pa.array(values if is_whole else _floats(values), pa.int64() if is_whole else pa.float64())
    return pa.array(values)


def _floats(values: list[Any]) -> list[float | None]:
    return [None if value is None else float(value) for value in values]
