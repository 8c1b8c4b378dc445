"""What is kept of a request, and how it stands in a segment."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from batchproof.service.features.arrays import Arrays, Outputs

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = "batchproof-journal"
FORMAT_VERSION = 1
METADATA = b"batchproof"  # the key of the schema's metadata that holds the header, as JSON
ROW_OVERHEAD_BYTES = 100  # id, time, caller and protocol of a row
HASH_BYTES = 16
INPUT, OUTPUT = "in:", "out:"  # prefixes of the columns


# What is recorded of a request beside its rows: its id; its caller, empty where no key is needed; the protocol; how many
# of the first rows that ran are the caller's; and their places in the request, where these are not 0, 1, 2, ...
Note: TypeAlias = tuple[str, str, str, int, "Sequence[int] | None"]

ROWS: Final = 3  # the place of their number in a note


class Notes(NamedTuple):
    """The notes of some requests, one list for each kind of entry."""

    ids: Sequence[str]
    callers: Sequence[str]  # of each request; a single one is that of all
    protocols: Sequence[str]  # likewise
    counts: Sequence[int] | None  # rows of each request; None: each has one
    places: Sequence[Sequence[int] | None] | None  # None: those of each are 0, 1, 2, ...

    @classmethod
    def of(cls, notes: Sequence[Note]) -> "Notes":
        """Return the notes of at least one request."""
        ids, callers, protocols, counts, places = zip(*notes, strict=True)
        requests = len(ids)
        return cls(
            ids,
            callers[:1] if callers.count(callers[0]) == requests else callers,
            protocols[:1] if protocols.count(protocols[0]) == requests else protocols,
            None if counts.count(1) == requests else counts,
            None if places.count(None) == requests else places,
        )

    @property
    def rows(self) -> int:
        """Return the number of rows."""
        return len(self.ids) if self.counts is None else sum(self.counts)


class Group(NamedTuple):
    """The rows of some answered requests of one model."""

    times: Sequence[tuple[float, int]]  # seconds since 1970, and how many of the requests were answered then
    notes: Notes  # of the requests
    arrays: Arrays  # inputs as they were encoded, [rows, features]
    outputs: Outputs  # by name, [rows, width]

    @property
    def rows(self) -> int:
        """Return the number of rows."""
        return self.notes.rows


@dataclass(frozen=True, eq=False)  # two processes may serve the same: a chain belongs to one of them
class Source:
    """What a chain's segments are about: one version of one model, in one process."""

    model: str
    version: int
    seal: str  # SHA-256 of bundle.json
    features: Sequence[tuple[str, str]]  # name and kind, in the signature's order
    outputs: Mapping[str, tuple[str, int]]  # name -> (dtype, width)
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    host: Mapping[str, Any] = field(default_factory=dict)
    left_out: Sequence[str] = ()  # features that are not kept
    hashed: Sequence[str] = ()  # features of which only a keyed hash is kept
    hash_key: str = field(default="", repr=False)  # hexadecimal

    @cached_property
    def row_bytes(self) -> int:
        """Return about how many bytes one row takes in memory."""
        return 8 * len(self.features) + 8 * sum(width for _, width in self.outputs.values()) + ROW_OVERHEAD_BYTES

    def as_plain(self) -> dict[str, Any]:
        """Return everything for JSON, the key too; `Source(**plain)` is equal."""
        return asdict(self)

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
        for name, kind in self.features:
            if name in self.hashed:
                fields.append(pa.field(INPUT + name, pa.binary(HASH_BYTES), nullable=False))
            elif name not in self.left_out:
                of_values = pa.int64() if kind == "categorical" else pa.float64()
                fields.append(pa.field(INPUT + name, of_values, nullable=False))
        for name, (dtype, width) in self.outputs.items():
            fields.append(pa.field(OUTPUT + name, pa.list_(pa.from_numpy_dtype(dtype), width), nullable=False))
        return pa.schema(fields, {METADATA: json.dumps(header)})
