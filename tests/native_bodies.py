"""Good bodies of every kind that a library in C or C++ parses: three small ones of each, for tests that damage them."""

import datetime as dt
import decimal
import gzip
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import ipc, parquet

from batchproof.service.server.grpc.messages import classes
from tests.bundles import INPUTS, NUMBERS, random_rows, signature_of

ROWS = 12
SIGNATURE = signature_of("multiclass", INPUTS)
NAMES = [feature["name"] for feature in INPUTS]
RECORDS = [dict(zip(NAMES, row, strict=True)) for row in random_rows(SIGNATURE, ROWS, seed=6)]
MATRIX = np.random.default_rng(4).normal(size=(ROWS, len(NUMBERS)))
MESSAGES = classes()
PARQUET = {"content-type": "application/vnd.apache.parquet"}
JSON = {"content-type": "application/json"}
TABLES, NUMBERS_MODEL = "/models/flowers/predict", "numbers"
ALONE = "?extra=ignore&on_error=row&answer=alone"
APPEND = "?extra=ignore&on_error=row"


class Body(NamedTuple):
    """A request that is answered with ROWS rows."""

    name: str
    data: bytes
    headers: Mapping[str, str]
    path: str
    is_checked: bool = False  # whether it has a checksum: then an answer has the same bits, or there is none
    has_parts: bool = False  # whether its first rows are answered before its last are read: then it may break off


def table(*extra: str) -> pa.Table:
    """Return the rows as a table with some of the columns that no model knows."""
    found = pa.table({name: [row[name] for row in RECORDS] for name in NAMES})
    for name in extra:
        found = found.append_column(name, EXTRA[name])
    return found


MOMENT = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
HALF = ROWS // 2
EXTRA = {
    "small": pa.array(range(ROWS), pa.int8()),
    "half": pa.array(np.arange(ROWS, dtype=np.float16)),
    "moment": pa.array([MOMENT] * ROWS, pa.timestamp("us", "UTC")),
    "price": pa.array([decimal.Decimal("1.25")] * ROWS, pa.decimal128(10, 2)),
    "raw": pa.array([b"abcd"] * ROWS, pa.binary(4)),
    "note": pa.array(["x", None] * HALF).dictionary_encode(),
    "view": pa.array(["a text that is not short enough", None] * HALF, pa.string_view()),
    "nothing": pa.nulls(ROWS),
    "serial": pa.array(range(ROWS), pa.int64()),
    "code": pa.array([f"abc{row}" for row in range(ROWS)]),
    "list": pa.array([[1, 2], None] * HALF),
    "map": pa.array([[("k", 1)]] * ROWS, pa.map_(pa.string(), pa.int32())),
}
DELTAS = {"serial": "DELTA_BINARY_PACKED", "code": "DELTA_BYTE_ARRAY", "half": "BYTE_STREAM_SPLIT"}


def _parquet(name: str, content: pa.Table, query: str, *, has_parts: bool = False, **ways: Any) -> Body:
    sink = io.BytesIO()
    parquet.write_table(content, sink, **ways)
    return Body(name, sink.getvalue(), PARQUET, TABLES + query, has_parts=has_parts)


def _stream(name: str, content: pa.Table, compression: str | None = None) -> Body:
    sink = io.BytesIO()
    with ipc.new_stream(sink, content.schema, options=ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(content)
    return Body(
        name, sink.getvalue(), {"content-type": "application/vnd.apache.arrow.stream"}, TABLES + APPEND, has_parts=True
    )


def _npy(name: str, values: np.ndarray) -> Body:
    sink = io.BytesIO()
    np.save(sink, values)
    return Body(name, sink.getvalue(), {"content-type": "application/x-npy"}, "/invocations")


def _packed(name: str, data: bytes, encoding: str, content_type: str) -> Body:
    headers = {"content-type": content_type, "content-encoding": encoding}
    return Body(name, data, headers, TABLES, is_checked=True)


def _message(name: str, tensors: Sequence[Mapping[str, Any]], **fields: Any) -> Body:
    request = MESSAGES["ModelInferRequest"](model_name=NUMBERS_MODEL, inputs=tensors, **fields)
    return Body(name, request.SerializeToString(), {}, "ModelInfer")


COLUMNS = [(feature["name"], MATRIX[:, place]) for place, feature in enumerate(NUMBERS)]
ROWS_JSON = json.dumps({"rows": RECORDS}).encode()
LISTS_JSON = json.dumps({"rows": [list(row.values()) for row in RECORDS]}).encode()
LINES = b"".join(json.dumps(row).encode() + b"\n" for row in RECORDS)
OIP = {
    "inputs": [
        {"name": name, "datatype": "FP64", "shape": [ROWS, 1], "data": list(map(float, column))}
        for name, column in COLUMNS
    ]
}
SHAPED = {"datatype": "FP64", "shape": [ROWS, 1]}

BODIES: Mapping[str, Sequence[Body]] = {
    "parquet": (
        _parquet("plain", table("small"), APPEND, compression="none", use_dictionary=False),
        _parquet("dictionaries", table("moment", "price", "raw", "note"), APPEND, has_parts=True, compression="snappy", row_group_size=5),
        _parquet(
            "deltas, lists", table(*DELTAS, "list", "map"), ALONE, compression="zstd", data_page_version="2.0",
            column_encoding=DELTAS, use_dictionary=NAMES, write_page_index=True,
        ),
    ),
    "arrow": (
        _stream("plain", table()),
        _stream("types", table("small", "half", "moment", "price", "raw", "note", "view", "nothing")),
        _stream("zstd", table("note", "view"), "zstd"),
    ),
    "npy": (
        _npy("float64", MATRIX),
        _npy("float32, columns", np.asfortranarray(MATRIX.astype(">f4"))),
        _npy("int16", (100 * MATRIX).astype("<i2")),
    ),
    "gzip": (
        _packed("gzip", gzip.compress(ROWS_JSON, mtime=0), "gzip", "application/json"),
        _packed("deflate", zlib.compress(LISTS_JSON), "deflate", "application/json"),
        _packed(
            "members", gzip.compress(LINES[:300], mtime=0) + gzip.compress(LINES[300:], mtime=0), "gzip",
            "application/jsonlines",
        ),
    ),
    "protobuf": (
        _message("raw", [{**SHAPED, "name": n} for n, _ in COLUMNS], raw_input_contents=[c.tobytes() for _, c in COLUMNS]),
        _message("typed", [{**SHAPED, "name": n, "contents": {"fp64_contents": c}} for n, c in COLUMNS], id="a"),
        _message(
            "parameters", [{**SHAPED, "name": n, "contents": {"fp64_contents": c}} for n, c in COLUMNS],
            parameters=[{"key": "binary_data_output", "value": {"bool_param": True}}],
            outputs=[{"name": "probabilities"}],
        ),
    ),
    "json": (
        Body("rows", ROWS_JSON, JSON, TABLES),
        Body("lists", LISTS_JSON, JSON, TABLES),
        Body("tensors", json.dumps(OIP).encode(), JSON, f"/v2/models/{NUMBERS_MODEL}/infer"),
    ),
}  # fmt: skip
