"""What is kept of a request, and how it stands in a segment."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from itertools import chain as joined
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from batchproof.service.bundle.signature import Signature
from batchproof.service.features.arrays import Arrays, Outputs

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = "batchproof-journal"
FORMAT_VERSION = 1
METADATA = b"batchproof"  # the key of the schema's metadata that holds the header, as JSON
ROW_OVERHEAD_BYTES = 100  # id, time, caller and protocol of a row
INPUT, OUTPUT = "in:", "out:"  # prefixes of the columns


class Entry(NamedTuple):
    """One answered request."""

    request_id: str
    time_s: float  # seconds since 1970, when the answer was there
    caller: str  # the name of its key; empty where no key is needed
    protocol: str
    rows: int
    arrays: Arrays  # inputs as they were encoded, [rows, features]
    outputs: Outputs  # by name, [rows, width]
    on_written: Callable[[str | None], None] | None = None  # called in the writer's thread: None, or why it failed
    places: Sequence[int] | None = None  # of the rows in the request, where they are not 0, 1, 2, ...


@dataclass(frozen=True, eq=False)  # two processes may serve the same: a chain belongs to one of them
class Source:
    """What a chain's segments are about: one version of one model, in one process."""

    model: str
    version: int
    seal: str  # SHA-256 of bundle.json
    signature: Signature
    outputs: Mapping[str, tuple[str, int]]  # name -> (dtype, width)
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    host: Mapping[str, Any] = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()  # features that are not kept
    hashed: frozenset[str] = frozenset()  # features of which only a keyed hash is kept
    hash_key: bytes = field(default=b"", repr=False)

    @cached_property
    def row_bytes(self) -> int:
        """Return about how many bytes one row takes in memory."""
        return (
            8 * len(self.signature.inputs) + 8 * sum(width for _, width in self.outputs.values()) + ROW_OVERHEAD_BYTES
        )

    def header(self, chain: str, sequence: int, previous: str) -> dict[str, Any]:
        """Return what stands at the head of a segment; `previous` is the SHA-256 of the one before it, or empty."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "chain": chain,
            "sequence": sequence,
            "previous": previous,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "model": self.model,
            "version": self.version,
            "seal": self.seal,
            "fingerprint": dict(self.fingerprint),
            "host": dict(self.host),
            "left_out": sorted(self.left_out),
            "hashed": sorted(self.hashed),
        }

    def schema(self, header: Mapping[str, Any]) -> "pa.Schema":
        """Return the columns of a segment, with its header."""
        import pyarrow as pa

        fields = [
            pa.field("request_id", pa.string(), nullable=False),
            pa.field("time", pa.timestamp("us", "UTC"), nullable=False),
            pa.field("caller", pa.string(), nullable=False),
            pa.field("protocol", pa.string(), nullable=False),
            pa.field("row", pa.int32(), nullable=False),  # the place in its request, from 0
        ]
        for feature in self.signature.inputs:
            if feature.name in self.hashed:
                fields.append(pa.field(INPUT + feature.name, pa.binary(HASH_BYTES), nullable=False))
            elif feature.name not in self.left_out:
                kind = pa.int64() if feature.kind == "categorical" else pa.float64()
                fields.append(pa.field(INPUT + feature.name, kind, nullable=False))
        for name, (dtype, width) in self.outputs.items():
            fields.append(pa.field(OUTPUT + name, pa.list_(pa.from_numpy_dtype(dtype), width), nullable=False))
        return pa.schema(fields, {METADATA: json.dumps(header)})

    def batch(self, entries: Sequence[Entry], schema: "pa.Schema") -> "pa.RecordBatch":
        """Return the rows of `entries` as columns."""
        import pyarrow as pa

        counts = [entry.rows for entry in entries]
        times_us = np.array([round(entry.time_s * 1e6) for entry in entries], np.int64)
        columns = [
            _repeated([entry.request_id for entry in entries], counts),
            _plain(np.repeat(times_us, counts)).view(schema.field("time").type),
            _repeated([entry.caller for entry in entries], counts),
            _repeated([entry.protocol for entry in entries], counts),
            _plain(_places(entries)),
            *self._inputs([entry.arrays for entry in entries]),
        ]
        for name, (_, width) in self.outputs.items():
            values = np.concatenate([entry.outputs[name] for entry in entries]).reshape(-1)
            columns.append(pa.FixedSizeListArray.from_arrays(_plain(values), width))
        return pa.record_batch(columns, schema=schema)

    def _inputs(self, arrays: Sequence[Arrays]) -> "list[pa.Array]":
        """Return the kept features as columns, in the signature's order."""
        numeric = _columns([part.numeric for part in arrays])
        codes = _columns([part.categorical for part in arrays])
        places = {"numeric": 0, "categorical": 0}
        columns = []
        for feature in self.signature.inputs:
            kind = "categorical" if feature.kind == "categorical" else "numeric"
            table = codes if kind == "categorical" else numeric
            assert table is not None, "the encoder makes an array for each kind that the signature has"
            values = table[places[kind]]
            places[kind] += 1
            if feature.name in self.hashed:
                columns.append(self._hashes(feature.name, values))
            elif feature.name not in self.left_out:
                columns.append(_plain(values))
        return columns

    def _hashes(self, name: str, values: np.ndarray) -> "pa.Array":
        """Return keyed hashes: equal values of a feature have equal ones, and only the key's owner can try values."""
        import pyarrow as pa

        key = hashlib.blake2b(name.encode(), key=self.hash_key, digest_size=32).digest()
        raw = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).tobytes()
        made = [
            hashlib.blake2b(raw[start : start + 8], key=key, digest_size=HASH_BYTES).digest()
            for start in range(0, len(raw), 8)
        ]
        buffers = [None, pa.py_buffer(b"".join(made))]
        return pa.Array.from_buffers(pa.binary(HASH_BYTES), len(made), buffers)


HASH_BYTES = 16


def _places(entries: Sequence[Entry]) -> np.ndarray:
    """Return the place of each row in its request, [rows] int32."""
    if all(entry.rows == 1 and entry.places is None for entry in entries):
        return np.zeros(len(entries), np.int32)
    given = (range(entry.rows) if entry.places is None else entry.places for entry in entries)
    return np.fromiter(joined.from_iterable(given), np.int32)


def _columns(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Return the rows of all requests with each feature in one piece, [features, rows]; None where there is no such kind."""
    present = [part for part in parts if part is not None]
    return np.ascontiguousarray(np.concatenate(present).T) if present else None


def _plain(values: np.ndarray) -> "pa.Array":
    """Return an array without nulls, bit for bit: NaN stays the NaN that it is."""
    import pyarrow as pa

    # The array's own memory, not pa.array, which takes ten times as long for a few rows and imports pandas where it is there.
    memory = np.packbits(values, bitorder="little") if values.dtype == bool else values
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(memory)])


def _repeated(values: Sequence[str], counts: Sequence[int]) -> "pa.Array":
    """Return each text as often as its request has rows."""
    if all(count == 1 for count in counts):
        return _texts(values)
    return _texts(values).take(_plain(np.repeat(np.arange(len(counts)), counts)))


def _texts(values: Sequence[str]) -> "pa.Array":
    """Return texts as a column."""
    import pyarrow as pa

    encoded = [value.encode() for value in values]
    ends = np.zeros(len(encoded) + 1, np.int32)
    np.cumsum([len(value) for value in encoded], out=ends[1:])
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(encoded), buffers)
