"""Rows to record batches of Arrow's streaming format, made from a template.

A journal writes small batches all day: with `refuse` one for each run of the engine. Making 40 Arrow arrays and serialising
them takes longer than everything else together, though the batches of a segment differ in nothing but their rows. So Arrow
makes one batch of the schema, and what changes in its message is written over: the number of rows, the length of each column,
and the place and the length of each buffer (https://arrow.apache.org/docs/format/Columnar.html, "RecordBatch message").
"""

import hashlib
import struct
from collections.abc import Sequence
from itertools import chain as joined
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from batchproof.service.features.arrays import Arrays
from batchproof.service.journal.entries import HASH_BYTES, Group, Source

if TYPE_CHECKING:
    import pyarrow as pa

ALIGNED = 8  # bytes: a buffer begins at a multiple of it
LENGTH, NODES, BUFFERS = 0, 1, 2  # fields of the table RecordBatch
HEADER, BODY_LENGTH = 2, 3  # fields of the table Message
PREFIX = struct.Struct("<Ii")  # a mark, and the bytes of the metadata


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

    def message(self, groups: Sequence[Group]) -> bytearray:
        """Return the rows of `groups` as one message."""
        notes = [note for group in groups for note in group.notes]
        ids, callers, protocols, counts, places = zip(*notes, strict=True)
        rows = sum(counts)
        texts = [_text_buffers(values, counts, rows) for values in (ids, callers, protocols)]
        parts = [
            *texts[0],
            _times(groups, counts),
            *texts[1],
            *texts[2],
            _rows_of_requests(counts, places, rows),
            *self._features([group.arrays for group in groups]),
            *[_output([group.outputs[name] for group in groups]) for name in self._source.outputs],
        ]
        body = b"".join([_padded(part) for part in parts])
        return self._described(rows, [len(data) for _, data in texts], len(body)) + body

    def _described(self, rows: int, text_bytes: Sequence[int], body_bytes: int) -> bytearray:
        """Return the metadata of a batch."""
        lengths = (self._bits * rows + 7) // 8 + self._constants
        lengths[self._texts] = text_bytes
        padded = (lengths + ALIGNED - 1) // ALIGNED * ALIGNED
        metadata, places = bytearray(self._metadata), self._places
        struct.pack_into("<q", metadata, places.body_length, body_bytes)
        struct.pack_into("<q", metadata, places.length, rows)
        nodes = np.frombuffer(metadata, "<i8", 2 * len(self._node_rows), places.nodes)
        nodes[::2] = self._node_rows * rows
        buffers = np.frombuffer(metadata, "<i8", 2 * len(lengths), places.buffers)
        buffers[::2] = np.cumsum(padded) - padded
        buffers[1::2] = lengths
        return metadata

    def _features(self, arrays: Sequence[Arrays]) -> list[bytes]:
        """Return the kept features one after another, in the signature's order."""
        source = self._source
        is_code = np.array([kind == "categorical" for _, kind in source.features])
        table = np.empty((len(is_code), sum([len(_first(part)) for part in arrays])), np.int64)
        numeric, codes = (_joined([part[kind] for part in arrays]) for kind in (0, 1))
        if numeric is not None:
            table[~is_code] = numeric.view(np.int64).T
        if codes is not None:
            table[is_code] = codes.T
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


def _text_buffers(values: Sequence[str], counts: Sequence[int], rows: int) -> tuple[bytes, bytes]:
    """Return the ends and the letters of texts, each as often as its request has rows."""
    if values.count(values[0]) == len(values):  # as for most callers and protocols
        text = values[0].encode()
        return (np.arange(rows + 1, dtype=np.int32) * np.int32(len(text))).tobytes(), text * rows
    encoded = [value.encode() for value in values]
    if rows != len(values):
        encoded = list(joined.from_iterable(map(repeat, encoded, counts)))
    ends = np.zeros(rows + 1, np.int32)
    np.cumsum([len(text) for text in encoded], out=ends[1:])
    return ends.tobytes(), b"".join(encoded)


def _times(groups: Sequence[Group], counts: Sequence[int]) -> bytes:
    """Return when each row was answered, in microseconds since 1970."""
    times = [time for group in groups for time in group.times]
    of_requests = np.repeat([round(time_s * 1e6) for time_s, _ in times], [requests for _, requests in times])
    return np.repeat(of_requests.astype(np.int64), counts).tobytes()


def _rows_of_requests(counts: Sequence[int], places: Sequence[Sequence[int] | None], rows: int) -> bytes:
    """Return the place of each row in its request."""
    if rows == len(counts) and not any(places):
        return bytes(4 * rows)
    of_requests = (range(count) if own is None else own for count, own in zip(counts, places, strict=True))
    return np.fromiter(joined.from_iterable(of_requests), np.int32, rows).tobytes()


def _output(parts: Sequence[np.ndarray]) -> bytes:
    """Return one output's values, bit for bit: NaN stays the NaN that it is."""
    values = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return np.packbits(values, bitorder="little").tobytes() if values.dtype == bool else values.tobytes()


def _joined(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Return the rows of all groups; None where there is no such kind."""
    present = [part for part in parts if part is not None]
    return np.ascontiguousarray(np.concatenate(present)) if present else None


def _first(arrays: Arrays) -> np.ndarray:
    """Return the inputs of one kind."""
    return next(array for array in arrays if array is not None)


def _padded(part: bytes) -> bytes:
    rest = -len(part) % ALIGNED
    return part + bytes(rest) if rest else part
