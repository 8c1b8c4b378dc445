"""The fast reading of `{"rows": [...]}`, or of another key as the only one: all good or nothing.

Whatever this reader accepts, the precise path (batchproof.service.features.row_encoder.Encoder on the parsed body)
accepts with the same bits; tests/service/protocols/json_text/test_fast_rows.py holds the two to each other. Whatever it
does not accept goes to the precise path, which says what is wrong or accepts the unusual. So it may refuse freely, but
must never take what it has not checked.

Rows of plain numbers: a SIMD parser hands all numbers over as one buffer and refuses null, strings, booleans, objects.
It flattens, so lengths are checked row by row; and as no string but the key can be left in such a body, the
count of `[` proves that rows hold no lists. Other rows: a decoder that is generated from the signature checks
types and names while it parses, and forbids unknown ones; the count of `:` proves that no key came twice.
"""

import re
import struct
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any

import msgspec
import numpy as np
import simdjson

from batchproof.service.bundle.signature import Feature, Signature
from batchproof.service.features.arrays import Arrays
from batchproof.service.features.texts.dates import epoch_seconds
from batchproof.service.features.value_encoder import BITS, missing_numbers
from batchproof.service.protocols.json_text.json_body import count as occurrences
from batchproof.service.protocols.json_text.json_body import repeated_key
from batchproof.service.protocols.json_text.long_parser import LONG_BODY_BYTES, parser_for

UNFIT_NAME = re.compile(r'[\\"\x00-\x1f]')  # in the field names of msgspec's structs


class FastRows:
    """The signature, arranged for reading good bodies."""

    def __init__(self, signature: Signature, key: str = "rows") -> None:
        """Generate the decoders of bodies whose one field is `key`."""
        self._key = key
        self._width = len(signature.inputs)
        self._is_plain = all(
            feature.kind == "numeric" and feature.value_type != "boolean" and feature.text_rule is None
            for feature in signature.inputs
        )
        self._parser = simdjson.Parser()
        self._columns = _Columns(signature)
        self._listed = _decoder(_listed(signature), key)
        row = _named(signature, self._columns.order)
        self._named = None if row is None else _decoder(row, key)
        self._signature = signature

    def decode(self, body: bytes) -> Arrays | None:
        """Return the arrays of a body that is all good, or None."""
        first = body.find(b"[", 0, 64) + 1
        opening = body[first : first + 64].lstrip()[:1]
        try:
            if opening == b"{" and self._named is not None:
                rows = list(map(msgspec.structs.astuple, self._named.decode(body).rows))
                return self._columns.arrays(rows) if self._is_distinct(body, len(rows) * self._width) else None
            if opening != b"[":
                return None
            return (self._plain(body) if self._is_plain else None) or self._values(body)
        except (msgspec.DecodeError, ValueError, TypeError, KeyError, OverflowError):
            return None  # the precise path says why, or takes what is merely unusual

    def lines(self, *, ignore_extra: bool) -> Callable[[Sequence[bytes]], Arrays | None]:
        """Return the reading of good lines, each an object; without `ignore_extra` unknown names are forbidden."""
        row = _named(self._signature, self._columns.order, forbid_unknown=not ignore_extra)
        if row is None:
            return lambda _lines: None
        decode = msgspec.json.Decoder(row).decode

        def read(lines: Sequence[bytes]) -> Arrays | None:
            try:
                return self._columns.arrays([_as_tuple(decode(line)) for line in lines])
            except (msgspec.DecodeError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
                return None

        return read

    def _plain(self, body: bytes) -> Arrays | None:
        if body[:1] == b"\xef":  # the precise path passes over a byte order mark
            return None
        if len(body) < LONG_BODY_BYTES:
            return self._numbers(body, self._parser)
        with parser_for(body) as parser:
            return self._numbers(body, parser)

    def _numbers(self, body: bytes, parser: simdjson.Parser) -> Arrays | None:
        try:
            document: Any = parser.parse(body)
            rows: Any = document[self._key]
            numbers = np.frombuffer(rows.as_buffer(of_type="d"))  # which only lists have
            count, width = len(rows), self._width
            if (
                len(document) != 1
                or len(numbers) != count * width
                or occurrences(body, b"[") != count + 1
                or (count != 1 and set(map(len, rows)) - {width})
            ):
                return None
        # RuntimeError: an integer of more than 64 bits
        except (AttributeError, ValueError, TypeError, KeyError, RuntimeError):
            return None
        return Arrays(numbers.reshape(count, width), None)

    def _is_distinct(self, body: bytes, keys: int) -> bool:
        """Return whether no key is repeated in a body whose rows have so many keys."""
        return repeated_key(body, keys + 1) is None

    def _values(self, body: bytes) -> Arrays | None:
        order = self._columns.places
        rows = self._listed.decode(body).rows
        if not self._is_distinct(body, 0):
            return None
        return self._columns.arrays([tuple([row[place] for place in order]) for row in rows])


class _Columns:
    """Tuples of checked values, numeric and date features first, to arrays."""

    def __init__(self, signature: Signature) -> None:
        inputs = list(enumerate(signature.inputs))
        numeric = [(place, feature) for place, feature in inputs if feature.kind != "categorical"]
        categorical = [(place, feature) for place, feature in inputs if feature.kind == "categorical"]
        self.places = [place for place, _ in numeric + categorical]
        self.order = [feature for _, feature in numeric + categorical]
        self._numbers = len(numeric)
        self._dates = [place for place, (_, feature) in enumerate(numeric) if feature.kind == "date"]
        self._booleans = [place for place, (_, feature) in enumerate(numeric) if feature.value_type == "boolean"]
        rules = [(place, feature.text_rule, feature.kind) for place, (_, feature) in enumerate(numeric)]
        marks = [(place, missing_numbers(rule, kind)) for place, rule, kind in rules if rule is not None]
        self._marks = [(place, list(numbers)) for place, numbers in marks if numbers]
        self._ruled = [feature.text_rule is not None for _, feature in categorical]
        self._codes = [_codes_by_value(feature) for _, feature in categorical]
        self._unlisted = [feature.unseen_code for _, feature in categorical]
        self._pack = struct.Struct(f"{self._numbers}d").pack

    def arrays(self, rows: Sequence[tuple[Any, ...]]) -> Arrays:
        """Return the arrays; raises ValueError or KeyError where a value needs the precise path."""
        numbers = self._numbers
        numeric = self._numeric(rows if not self._codes else [row[:numbers] for row in rows]) if numbers else None
        if numeric is not None and self._booleans:
            _check_bits(numeric[:, self._booleans])
        for place, marks in self._marks:
            if numeric is not None and np.isin(numeric[:, place], marks).any():
                raise ValueError("a number may stand for a missing value")
        categorical = self._categorical(list(zip(*rows, strict=True))[numbers:], len(rows)) if self._codes else None
        return Arrays(numeric, categorical)

    def _numeric(self, rows: Sequence[Sequence[Any]]) -> np.ndarray:
        if self._dates:
            rows = [self._dated(row) for row in rows]
        try:
            pack = self._pack
            numbers = np.frombuffer(b"".join([pack(*row) for row in rows]))
        except struct.error:  # None becomes NaN, after the numbers were seen to be finite
            given = [[0.0 if value is None else value for value in row] for row in rows]
            _check_finite(np.array(given, dtype=np.float64))
            return np.array(rows, dtype=np.float64).reshape(len(rows), self._numbers)
        _check_finite(numbers)
        return numbers.reshape(len(rows), self._numbers)

    def _dated(self, row: Sequence[Any]) -> list[Any]:
        values = list(row)
        for place in self._dates:
            text = values[place]
            values[place] = None if text is None else epoch_seconds(text)
        return values

    def _categorical(self, columns: Sequence[tuple[Any, ...]], rows: int) -> np.ndarray:
        codes = np.empty((rows, len(self._codes)), dtype=np.int64)
        columns = columns or [()] * len(self._codes)
        for place, (column, known, unlisted) in enumerate(zip(columns, self._codes, self._unlisted, strict=True)):
            codes[:, place] = list(map(known.get, column, repeat(unlisted)))
            if self._ruled[place] and (codes[:, place] == unlisted).any():
                raise ValueError("a rule may say what an unlisted category is")
            if any(type(value) is float for value in column):  # 3.0 is the category 3, but 3.5 is a fault
                raise ValueError("a number with a fraction may not be a category")
        return codes


def _as_tuple(row: Any) -> tuple[Any, ...]:
    values: tuple[Any, ...] = msgspec.structs.astuple(row)
    return values


def _check_finite(numbers: np.ndarray) -> None:
    if not np.isfinite(numbers).all():
        raise ValueError("a number is beyond float64")


def _check_bits(numbers: np.ndarray) -> None:
    """Raise ValueError where a number of a true or false feature is neither 0 nor 1 nor missing."""
    if not (np.isin(numbers, BITS) | np.isnan(numbers)).all():
        raise ValueError("a number is neither true nor false")


def _codes_by_value(feature: Feature) -> dict[Any, int]:
    """Return {JSON value: code}, missing included; a category that no JSON value can name is left out."""
    codes: dict[Any, int] = {None: feature.missing_code}
    for text, code in feature.codes.items():
        if feature.value_type == "string":
            codes[text] = code
        elif feature.value_type == "boolean" and text in {"true", "false"}:
            codes[text == "true"] = code
        elif feature.value_type == "integer" and text.lstrip("-").isdecimal() and str(int(text)) == text:
            codes[int(text)] = code
    return codes


def _json_type(feature: Feature) -> Any:
    """Return the Python type of the feature's JSON values; the precise path takes everything that it takes."""
    kind: Any = {
        ("numeric", "boolean"): bool | float,
        ("categorical", "integer"): int | float,
        ("categorical", "boolean"): bool,
        ("categorical", "string"): str,
        ("date", "date"): str,
    }.get((feature.kind, feature.value_type), float)
    return kind | None if feature.missing else kind


def _decoder(row: Any, key: str) -> Any:
    body = msgspec.defstruct("Body", [("rows", list[row])], rename={"rows": key}, forbid_unknown_fields=True, gc=False)
    return msgspec.json.Decoder(body)


def _listed(signature: Signature) -> Any:
    return tuple[tuple(_json_type(feature) for feature in signature.inputs)]  # type: ignore[misc]


def _named(signature: Signature, order: Sequence[Feature], *, forbid_unknown: bool = True) -> Any:
    """Return the type of a row that is an object; None where a name is of a kind that the decoder cannot have."""
    if any(UNFIT_NAME.search(feature.name) for feature in order):
        return None
    fields = [(f"f{place}", _json_type(feature)) for place, feature in enumerate(order)]
    names = {f"f{place}": feature.name for place, feature in enumerate(order)}
    return msgspec.defstruct("Row", fields, rename=names, forbid_unknown_fields=forbid_unknown, gc=False)
