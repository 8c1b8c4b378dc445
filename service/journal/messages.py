"""Rows to record batches of Arrow's streaming format, made from a template.

A journal writes small batches all day: with `refuse` one for each run of the engine. Making 40 Arrow arrays and serialising
them takes longer than everything else together, though the batches of a segment differ in nothing but their rows. So Arrow
makes one batch of the schema, and what changes in its message is written over: the number of rows, the length of each column,
and the place and the length of each buffer (https://arrow.apache.org/docs/format/Columnar.html, "RecordBatch message").
"""

import hashlib
import struct
from array import array
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, repeat
from itertools import chain as joined
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from batchproof.service.features.arrays import Arrays
from batchproof.service.journal.entries import HASH_BYTES, Group, Notes, Source

if TYPE_CHECKING:
    import pyarrow as pa

ALIGNED = 8  # bytes: a buffer begins at a multiple of it
LENGTH, NODES, BUFFERS = 0, 1, 2  # fields of the table RecordBatch
HEADER, BODY_LENGTH = 2, 3  # fields of the table Message
PREFIX = struct.Struct("<Ii")  # a mark, and the bytes of the metadata
TIME = struct.Struct("<q")
MOST_SHAPES = 64  # numbers of rows whose metadata is remembered: runs of few rows are many


class _Place(NamedTuple):
    """Where the numbers that change stand in the metadata, with its prefix."""

    body_length: int
    length: int
    nodes: int
    buffers: int


class Messages:
    """The batches of one segment."""

    def __init__(self, source: Source, schema: "pa.Schema") -> None:
        """Make the template."""
        self._source = source
        message = _template(schema)
        _, size = PREFIX.unpack_from(message)
        self._metadata = message[: PREFIX.size + size]
        self._places = _places_in(self._metadata)
        node_rows, bits, constants, self._texts = _layout(schema)
        self._node_rows = np.array(node_rows, np.int64)
        self._bits = np.array(bits, np.int64)
        self._constants = np.array(constants, np.int64)
        self._shapes: dict[int, tuple[bytearray, np.ndarray]] = {}
        self._is_code = np.array([kind == "categorical" for _, kind in source.features])
        self._is_number = ~self._is_code

    def message(self, groups: Sequence[Group]) -> bytes:
        """Return the rows of `groups` as one message."""
        notes = _together([group.notes for group in groups])
        rows = notes.rows
        texts = [_text_buffers(values, notes.counts, rows) for values in (notes.ids, notes.callers, notes.protocols)]
        parts = [
            *texts[0],
            _times(groups, notes.counts, rows),
            *texts[1],
            *texts[2],
            _rows_of_requests(notes, rows),
            *self._features([group.arrays for group in groups]),
            *[_output([group.outputs[name] for group in groups]) for name in self._source.outputs],
        ]
        padded: list[bytes | bytearray] = [b""]
        body_bytes = 0
        for part in parts:
            padded.append(part)
            body_bytes += len(part)
            if rest := -body_bytes % ALIGNED:
                padded.append(bytes(rest))
                body_bytes += rest
        padded[0] = self._described(rows, [len(data) for _, data in texts], body_bytes)
        return b"".join(padded)

    def _described(self, rows: int, text_bytes: Sequence[int], body_bytes: int) -> bytearray:
        """Return the metadata of a batch."""
        metadata, lengths = self._shape(rows)
        metadata, lengths = metadata.copy(), lengths.copy()
        lengths[self._texts] = text_bytes
        padded = (lengths + ALIGNED - 1) & -ALIGNED
        struct.pack_into("<q", metadata, self._places.body_length, body_bytes)
        buffers = np.frombuffer(metadata, "<i8", 2 * len(lengths), self._places.buffers)
        buffers[::2] = np.add.accumulate(padded) - padded
        buffers[1::2] = lengths
        return metadata

    def _shape(self, rows: int) -> tuple[bytearray, np.ndarray]:
        """Return what all batches of so many rows have in common: metadata, and the length of each buffer but of texts."""
        known = self._shapes.get(rows)
        if known is not None:
            return known
        metadata = bytearray(self._metadata)
        struct.pack_into("<q", metadata, self._places.length, rows)
        nodes = np.frombuffer(metadata, "<i8", 2 * len(self._node_rows), self._places.nodes)
        nodes[::2] = self._node_rows * rows
        if len(self._shapes) == MOST_SHAPES:
            self._shapes.clear()
        self._shapes[rows] = metadata, (self._bits * rows + 7) // 8 + self._constants
        return self._shapes[rows]

    def _features(self, arrays: Sequence[Arrays]) -> list[bytes]:
        """Return the kept features one after another, in the signature's order."""
        source = self._source
        numeric, codes = (_joined([part[kind] for part in arrays]) for kind in (0, 1))
        if codes is None and numeric is not None:
            table = numeric.view(np.int64).T
        elif numeric is None and codes is not None:
            table = codes.T
        else:
            assert numeric is not None, "a model has features"
            assert codes is not None, "of one kind at least"
            table = np.empty((len(source.features), len(codes)), np.int64)
            table[self._is_number] = numeric.view(np.int64).T
            table[self._is_code] = codes.T
        if not source.left_out and not source.hashed:
            return [table.tobytes()]
        return [
            self._hashes(name, values) if name in source.hashed else values.tobytes()
            for (name, _), values in zip(source.features, table, strict=True)
            if name not in source.left_out
        ]

    def _hashes(self, name: str, values: np.ndarray) -> bytes:
        """Return keyed hashes: equal values of a feature have equal ones, and only the key's owner can try values."""
        secret = bytes.fromhex(self._source.hash_key)
        key = hashlib.blake2b(name.encode(), key=secret, digest_size=32).digest()
        raw = values.tobytes()
        return b"".join(
            hashlib.blake2b(raw[start : start + 8], key=key, digest_size=HASH_BYTES).digest()
            for start in range(0, len(raw), 8)
        )


def _template(schema: "pa.Schema") -> bytes:
    """Return the message of a batch with one row, in which no number that is looked for is left out as zero."""
    import pyarrow as pa

    def one(kind: "pa.DataType") -> "pa.Array":
        if pa.types.is_fixed_size_list(kind):
            values = pa.Array.from_buffers(kind.value_type, kind.list_size, [None, zeros])
            return pa.Array.from_buffers(kind, 1, [None], children=[values])
        return pa.Array.from_buffers(kind, 1, [None, zeros, zeros] if pa.types.is_string(kind) else [None, zeros])

    widest = max([8 * field.type.list_size for field in schema if pa.types.is_fixed_size_list(field.type)], default=0)
    zeros = pa.py_buffer(bytes(max(16, widest)))
    batch = pa.RecordBatch.from_arrays([one(field.type) for field in schema], schema=schema)
    return bytes(batch.serialize())


def _layout(schema: "pa.Schema") -> tuple[list[int], list[int], list[int], list[int]]:
    """Return the values of each node for a row; bits for a row and constant bytes of each buffer; the buffers of texts."""
    import pyarrow as pa

    node_rows: list[int] = []
    bits: list[int] = []
    constants: list[int] = []
    texts: list[int] = []

    def buffer(row_bits: int, constant: int = 0) -> None:
        bits.append(row_bits)
        constants.append(constant)

    for field in schema:
        kind = field.type
        node_rows.append(1)
        buffer(0)  # no row is missing
        if pa.types.is_string(kind):
            buffer(32, 4)
            texts.append(len(bits))
            buffer(0)
        elif pa.types.is_fixed_size_list(kind):
            node_rows.append(kind.list_size)
            buffer(0)
            buffer(kind.value_type.bit_width * kind.list_size)
        else:
            buffer(kind.bit_width)
    return node_rows, bits, constants, texts


def _places_in(message: bytes) -> _Place:
    """Find the numbers in a message's metadata, which is a FlatBuffer behind the prefix."""

    def field(table: int, number: int) -> int:
        fields = table - struct.unpack_from("<i", message, table)[0]
        return table + int(struct.unpack_from("<H", message, fields + 4 + 2 * number)[0])

    def behind(place: int) -> int:
        return place + int(struct.unpack_from("<I", message, place)[0])

    root = behind(PREFIX.size)
    batch = behind(field(root, HEADER))
    elements = [behind(field(batch, number)) + 4 for number in (NODES, BUFFERS)]  # behind their number
    return _Place(field(root, BODY_LENGTH), field(batch, LENGTH), *elements)


def _together(notes: Sequence[Notes]) -> Notes:
    """Return the notes of several groups as those of one."""
    if len(notes) == 1:
        return notes[0]

    def texts(of: Callable[[Notes], Sequence[str]]) -> Sequence[str]:
        each = [of(one) for one in notes]
        if len(each[0]) == 1 and all(values == each[0] for values in each):
            return each[0]
        return [text for one, values in zip(notes, each, strict=True) for text in _spread(values, len(one.ids))]

    has_counts = any(one.counts is not None for one in notes)
    has_places = any(one.places is not None for one in notes)
    return Notes(
        [text for one in notes for text in one.ids],
        texts(lambda one: one.callers),
        texts(lambda one: one.protocols),
        [count for one in notes for count in one.counts or repeat(1, len(one.ids))] if has_counts else None,
        [own for one in notes for own in one.places or repeat(None, len(one.ids))] if has_places else None,
    )


def _spread(values: Sequence[str], requests: int) -> Sequence[str]:
    """Return the text of each request."""
    return values if len(values) == requests else list(values) * requests


def _text_buffers(values: Sequence[str], counts: Sequence[int] | None, rows: int) -> tuple[bytes, bytes]:
    """Return the ends and the letters of texts, each as often as its request has rows; a single text is that of all rows."""
    if len(values) == 1:
        text = values[0].encode()
        return (np.arange(rows + 1, dtype=np.int32) * np.int32(len(text))).tobytes(), text * rows
    lengths: Iterable[int]
    if counts is None and (letters := "".join(values)).isascii():
        lengths, data = map(len, values), letters.encode()
    else:
        encoded = [value.encode() for value in values]
        if counts is not None:
            encoded = list(joined.from_iterable(map(repeat, encoded, counts)))
        lengths, data = map(len, encoded), b"".join(encoded)
    return array("i", accumulate(lengths, initial=0)).tobytes(), data


def _times(groups: Sequence[Group], counts: Sequence[int] | None, rows: int) -> bytes:
    """Return when each row was answered, in microseconds since 1970."""
    times = [(round(time_s * 1e6), requests) for group in groups for time_s, requests in group.times]
    if len(times) == 1:
        return TIME.pack(times[0][0]) * rows
    of_requests = np.repeat(np.array([time for time, _ in times], np.int64), [requests for _, requests in times])
    return (of_requests if counts is None else np.repeat(of_requests, counts)).tobytes()


def _rows_of_requests(notes: Notes, rows: int) -> bytes:
    """Return the place of each row in its request."""
    if notes.counts is None and notes.places is None:
        return bytes(4 * rows)
    counts, places = notes.counts or repeat(1), notes.places or repeat(None, len(notes.ids))
    of_requests = (range(count) if own is None else own for own, count in zip(places, counts, strict=False))
    return np.fromiter(joined.from_iterable(of_requests), np.int32, rows).tobytes()


def _output(parts: Sequence[np.ndarray]) -> bytes:
    """Return one output's values, bit for bit: NaN stays the NaN that it is."""
    values = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return np.packbits(values, bitorder="little").tobytes() if values.dtype == bool else values.tobytes()


def _joined(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Return the rows of all groups; None where there is no such kind."""
    present = [part for part in parts if part is not None]
    if len(present) < 2:
        return np.ascontiguousarray(present[0]) if present else None
    return np.ascontiguousarray(np.concatenate(present))
