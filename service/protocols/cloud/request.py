"""The bodies that scoring platforms send: JSON with instances or data frames, CSV, JSON Lines, NumPy array files.

JSON is an object with exactly one of

    {"instances": [row, ...]}                       Vertex AI, SageMaker, KServe and TensorFlow Serving, MLflow
    {"inputs": [row, ...] or {feature: [values]}}   MLflow
    {"dataframe_split": {"columns": [...], "data": [[...], ...]}}   MLflow (also "index", which is ignored)
    {"dataframe_records": [{feature: value}, ...]}  MLflow
    {"input_data": as dataframe_split, or rows}     Azure ML
    {"rows": [row, ...]}                            this service's own

where a row is an object or a list in signature order; "parameters" and "params" beside it are ignored. CSV is
csv_rows.py's. Each line of JSON Lines is a row, or an object with the one field `instances` or `rows`. An array file is
npy.py's.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from batchproof.service import errors
from batchproof.service.errors import ServiceError
from batchproof.service.features.arrays import Arrays
from batchproof.service.features.row_encoder import Encoder
from batchproof.service.protocols.accept import preferred
from batchproof.service.protocols.cloud import npy
from batchproof.service.protocols.compression import header
from batchproof.service.protocols.interface import Call, Decoded, Limits
from batchproof.service.protocols.json_text.fast_rows import FastRows
from batchproof.service.protocols.json_text.json_body import (
    check_keys,
    check_size,
    invalid_rows,
    loads_with_nan,
    more_rows,
    parse_with_nan,
    too_many_rows,
    without_bom,
)

if TYPE_CHECKING:
    from batchproof.service.protocols.cloud.csv_rows import CsvRows

CSV_TYPES = ("text/csv", "application/csv")
LINES_TYPES = ("application/jsonlines", "application/x-jsonlines", "application/x-ndjson", "application/jsonl")
NPY_TYPES = ("application/x-npy",)
JSON_TYPES = ("application/json", "text/json", "application/json-p", "")
ANSWER_TYPES = {
    "application/json": "json",
    **{
        name: kind for kind, names in (("csv", CSV_TYPES), ("lines", LINES_TYPES), ("npy", NPY_TYPES)) for name in names
    },
}
# Sent by HTTP libraries when the caller names no type: the body decides.
UNSAID = ("application/octet-stream", "application/x-www-form-urlencoded", "text/plain", "*/*")
FORMS = ("instances", "inputs", "dataframe_split", "dataframe_records", "input_data", "rows")
BESIDE = ("parameters", "params", "signature_name")


class Rows(NamedTuple):
    """Rows as they came: objects, or lists in the order of `columns` (None: of the signature)."""

    rows: Sequence[Any]
    columns: Sequence[Any] | None = None


class ScoringReader:
    """One model's scoring requests."""

    def __init__(self, encoder: Encoder, limits: Limits) -> None:
        """Prepare the readers of text cells, and of good rows."""
        self._fast = FastRows(encoder.signature, "instances")
        self._encoder = encoder
        self._limits = limits

    @cached_property
    def _csv(self) -> "CsvRows":
        from batchproof.service.protocols.cloud.csv_rows import CsvRows  # with the first body of it

        return CsvRows(self._encoder.signature, self._limits.max_rows)

    def read(self, call: Call) -> Decoded:
        """Return the rows; `note` is the content type that the answer should have. Raises 400, 415 or 422."""
        body = call.body
        kind = content_type(call, body)
        good = self.read_good(call, kind)
        if good is not None:
            return good
        if kind == "npy":
            return self._array(call, npy.array_of(body))
        if kind == "csv":
            given = Rows(*self._csv.read(body))
        elif kind == "lines":
            given = lines_rows(body, self._limits.max_rows)
        else:
            check_size(body, self._limits.max_rows, len(self._encoder.names))
            content = parse_with_nan(body)
            check_keys(body, keys_of(content))
            given = json_rows(content)
        if len(given.rows) > self._limits.max_rows:
            raise too_many_rows(len(given.rows), self._limits.max_rows)
        encoded = self._encoder.encode_rows(given.rows, given.columns, self._limits.error_limit)
        if encoded.errors:
            raise invalid_rows(encoded)
        return self._decoded(encoded.arrays, len(given.rows), answer_type(call, kind))

    def read_good(self, call: Call, kind: str) -> Decoded | None:
        """Return good rows that came as JSON in the usual form, None for any other body. Raises 422 for too many."""
        arrays = self._fast.decode(call.body) if kind == "json" else None
        return None if arrays is None else self._decoded(arrays, rows_of(arrays), answer_type(call, kind))

    def read_raw(self, call: Call) -> Decoded | None:
        """Return the rows of an array file that holds numbers for numeric features only; None for any other body.

        However many they are, NumPy reads them, and without the interpreter's lock. Raises 400, 415 or 422.
        """
        kind = content_type(call, call.body)
        if kind != "npy" or any(feature.kind != "numeric" for feature in self._encoder.signature.inputs):
            return None
        values = npy.array_of(call.body)
        if values.dtype.kind == "b":  # which are encoded one by one
            return None
        return self._array(call, values)

    def _array(self, call: Call, values: np.ndarray) -> Decoded:
        """Return the rows of an array [rows, features]; raises 422."""
        if len(values) > self._limits.max_rows:  # before their numbers take eight bytes each
            raise too_many_rows(len(values), self._limits.max_rows)
        return self._decoded(npy.arrays_of(self._encoder.signature, values), len(values), answer_type(call, "npy"))

    def _decoded(self, arrays: Arrays, rows: int, answer: str) -> Decoded:
        if rows > self._limits.max_rows:
            raise too_many_rows(rows, self._limits.max_rows)
        return Decoded(arrays, rows, answer)


def rows_of(arrays: Arrays) -> int:
    """Return how many rows the arrays hold."""
    return len(arrays.numeric if arrays.numeric is not None else arrays.categorical)  # type: ignore[arg-type]


def content_type(call: Call, body: bytes) -> str:
    """Return what the body is, "json", "lines", "npy" or "csv"; raises 415 for a type that is none of them."""
    stated = (header(call.headers, b"content-type") or b"").decode("latin-1").lower()
    name, _, parameters = stated.partition(";")
    name = name.strip()
    charset = parameters.partition("charset=")[2].split(";")[0].strip(' "')
    if charset not in ("", "utf-8", "utf8", "us-ascii", "ascii"):
        raise ServiceError(415, "unsupported_type", f"The charset {charset!r:.40} is not supported; use UTF-8.")
    if name in UNSAID and body.startswith(npy.MAGIC):
        return "npy"
    if name in UNSAID:
        return "json" if without_bom(body).lstrip()[:1] in (b"{", b"[") else "csv"
    for kind, names in (("json", JSON_TYPES), ("lines", LINES_TYPES), ("csv", CSV_TYPES), ("npy", NPY_TYPES)):
        if name in names:
            return kind
    raise ServiceError(
        415,
        "unsupported_type",
        f"Content-Type {name!r:.60} is not supported; use application/json, application/jsonlines, text/csv or application/x-npy.",
    )


def answer_type(call: Call, kind: str) -> str:
    """Return what the answer should be: what Accept prefers, else JSON Lines for JSON Lines and JSON for the others."""
    usual = "application/jsonlines" if kind == "lines" else "application/json"
    chosen = preferred(header(call.headers, b"accept"), (usual, *ANSWER_TYPES))
    return ANSWER_TYPES[chosen or usual]


def json_rows(content: Any) -> Rows:
    """Return the rows of a JSON object in one of the forms; raises 422."""
    if not isinstance(content, dict):
        raise _wrong_form("a JSON object")
    forms = [name for name in content if name in FORMS]
    unknown = [name for name in content if name not in FORMS and name not in BESIDE]
    if len(forms) != 1 or unknown:
        near = errors.nearest(unknown[0], FORMS) if unknown else ""
        raise _wrong_form(f"an object with exactly one of {', '.join(FORMS)}", near)
    (form,) = forms
    value = content[form]
    if form == "dataframe_split" or (form == "input_data" and isinstance(value, dict)):
        return _split(form, value)
    if form == "inputs" and isinstance(value, dict):
        return _columns(value)
    if not isinstance(value, list):
        raise _wrong_form(f"{form} to be a list of rows")
    return Rows(value)


def lines_rows(body: bytes, max_rows: int) -> Rows:
    """Return the rows of JSON Lines; raises 400 naming the line that is not JSON, and 422 beyond `max_rows`."""
    rows: list[Any] = []
    for number, line in enumerate(without_bom(body).split(b"\n"), 1):
        if not line.strip():
            continue
        if len(rows) > max_rows:
            raise more_rows(max_rows)
        try:
            content = loads_with_nan(line)
        except json.JSONDecodeError as error:
            fault = errors.json_fault(line, error)
            raise ServiceError(
                400, "broken_json", f"Line {number} is not JSON: {fault} (column {error.colno})."
            ) from error
        check_keys(line, keys_of(content), f"Line {number}: the")
        if isinstance(content, dict) and len(content) == 1 and next(iter(content)) in ("instances", "rows"):
            rows += json_rows(content).rows
        else:
            rows.append(content)
    if not rows:
        raise ServiceError(422, "invalid_request", "The body holds no row.")
    return Rows(rows)


def keys_of(content: Any) -> int:
    """Return how many keys the objects of a parsed body or line have, in the places where they may stand."""
    if not isinstance(content, dict):
        return 0
    keys = len(content)
    for value in content.values():
        if isinstance(value, list):
            keys += sum([len(row) for row in value if isinstance(row, dict)])
        elif isinstance(value, dict):
            keys += len(value)
    return keys


def _split(form: str, value: Any) -> Rows:
    fields = value if isinstance(value, dict) else {}
    columns, data = fields.get("columns"), fields.get("data")
    if not isinstance(columns, list) or not isinstance(data, list) or not set(fields) <= {"columns", "data", "index"}:
        raise _wrong_form(f'{form} to be {{"columns": [...], "data": [[...], ...]}}')
    return Rows(data, columns)


def _columns(value: Mapping[str, Any]) -> Rows:
    lists = list(value.values())
    if not all(isinstance(values, list) and len(values) == len(lists[0]) for values in lists):
        raise _wrong_form("inputs to hold one list for each feature, all of one length")
    return Rows([list(row) for row in zip(*lists, strict=True)], list(value))


def _wrong_form(wanted: str, near: str = "") -> ServiceError:
    return ServiceError(422, "invalid_request", f"Expected {wanted}.{near}")
