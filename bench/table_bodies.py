"""Requests of a real table, in every format that Batchproof reads, and its answers as numbers [rows, numbers].

The numbers of an answer are the probabilities in the order of the classes, or the value and its quantiles.
"""

import csv
import datetime as dt
import io
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from bench.bodies import JSON, Request, WrongAnswer, dump

ARROW = "application/vnd.apache.arrow.stream"
CSV = "text/csv"

Rows = Sequence[Sequence[Any]]


def json_rows(table: pa.Table) -> list[list[Any]]:
    """Return a table's rows as JSON values, in the order of its columns; dates as ISO 8601."""
    columns = [[_plain(value) for value in column.to_pylist()] for column in table.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, dt.date | dt.datetime) else value


def requests(
    table: pa.Table, sizes: Sequence[int], answer: Callable[[int], Any], *, is_class: bool
) -> dict[str, Request]:
    """Return a request for the first rows of a table in each format: named_1, positional_100, csv_1000, arrow_1000.

    `answer(rows)` gives the right numbers [rows, numbers] of so many rows.
    """
    names, rows = table.column_names, json_rows(table)
    parse_csv = partial(parse_table, names=names, is_class=is_class, read=_csv_columns)
    parse_arrow = partial(parse_table, names=names, is_class=is_class, read=_arrow_columns)
    found = {}
    for size in sizes:
        part, expected = rows[:size], answer(size)
        found[f"named_{size}"] = Request("/predict", JSON, named(names, part), expected, parse_json)
        found[f"positional_{size}"] = Request("/predict", JSON, dump({"rows": part}), expected, parse_json)
        head = {"Content-Type": CSV}
        found[f"csv_{size}"] = Request("/predict", head, csv_text(names, part), expected, parse_csv)
        head = {"Content-Type": ARROW}
        found[f"arrow_{size}"] = Request("/predict", head, arrow_stream(table[:size]), expected, parse_arrow)
    return found


def named(names: Sequence[str], rows: Rows) -> bytes:
    """Return {"rows": [{name: value}…]}."""
    return dump({"rows": [dict(zip(names, row, strict=True)) for row in rows]})


def csv_text(names: Sequence[str], rows: Rows) -> bytes:
    """Return a CSV table with a header; missing values are empty cells."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    return text.getvalue().encode()


def arrow_stream(table: pa.Table) -> bytes:
    """Return a table as an Arrow IPC stream."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table.combine_chunks())
    return sink.getvalue()


def parse_json(content: bytes, _headers: Mapping[str, str]) -> list[list[float]]:
    """Read the numbers of {"predictions": [...]}."""
    return [_numbers(prediction) for prediction in json.loads(content)["predictions"]]


def _numbers(prediction: Mapping[str, Any]) -> list[float]:
    if "probabilities" in prediction:
        return list(prediction["probabilities"].values())
    value = prediction["value"]
    values = list(value.values()) if isinstance(value, dict) else [value]
    return [*values, *prediction.get("quantiles", {}).values()]


def parse_table(
    content: bytes,
    _headers: Mapping[str, str],
    *,
    names: Sequence[str],
    is_class: bool,
    read: Callable[[bytes], tuple[Sequence[str], Rows]],
) -> list[list[float]]:
    """Read the numbers behind the table's own columns; the first of them is the class, where there are classes."""
    header, columns = read(content)
    if list(header[: len(names)]) != list(names):
        raise WrongAnswer(f"the answer has the columns {header}, and not first those of the table")
    return [[float(cell) for cell in row] for row in zip(*columns[len(names) + is_class :], strict=True)]


def _csv_columns(content: bytes) -> tuple[Sequence[str], Rows]:
    header, *rows = csv.reader(io.StringIO(content.decode()))
    return header, list(zip(*rows, strict=True))


def _arrow_columns(content: bytes) -> tuple[Sequence[str], Rows]:
    table = pa.ipc.open_stream(content).read_all()
    return table.column_names, [column.to_pylist() for column in table.columns]
