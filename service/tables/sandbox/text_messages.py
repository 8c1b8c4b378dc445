"""What the service and a process that reads and writes tables of text tell each other.

The service pickles what it sends of the model and of the table, never the other way round: what comes back has read a
stranger's bytes, so it is of the types below, within their bounds, or it is the end of the process.

A table begins with the descriptor that its body comes out of, then TABLE, which READY answers. Then each side sends when it
has something: the process its blocks in order (BLOCK, END behind the last one, or REFUSED or FAILED in place of one), the
service the outputs of each block in turn (OUTPUTS), the process the text of each (ANSWER) and of the table's end (LAST).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from batchproof.service.features.arrays import ArrayBounds, Arrays, Outputs
from batchproof.service.runtime.processes.frames import PeerEndedError
from batchproof.service.tables.block import Rows
from batchproof.service.tables.formats import Format
from batchproof.service.tables.parameters import Parameters

MODEL, TABLE, OUTPUTS = b"M", b"T", b"O"  # kinds of frames, from the service
READY, BLOCK, END, ANSWER, LAST = b"y", b"b", b"e", b"a", b"l"  # from the process
REFUSED, FAILED = b"r", b"f"  # instead of a block
ANSWER_REFUSED, ANSWER_FAILED = b"R", b"F"  # instead of an answer

SHORTER = "write shorter lines, or fewer columns"  # where a table takes too much memory

Place = Annotated[int, Meta(ge=0, lt=1 << 31)]  # the journal has it as int32


@dataclass(frozen=True)
class TextTable:
    """One table: what it is, what is wanted of it, and what it may take."""

    model: int  # the number of a MODEL that was sent before
    source: Format
    target: Format
    parameters: Parameters
    request_id: str
    encoding: bytes  # of the body
    block_rows: int
    max_bytes: int  # unpacked
    max_json_bytes: int
    error_limit: int  # how many bad rows a refusal lists
    block_cpu_s: int  # processor time from one block to the next


class PackedRows(msgspec.Struct, array_like=True, frozen=True):
    """The rows of a block: float64 and int64, row by row."""

    count: Place
    kept: list[Place] | None  # None: all
    numeric: memoryview | None
    categorical: memoryview | None


class PackedOutput(msgspec.Struct, array_like=True, frozen=True):
    """One of the graph's outputs."""

    name: str
    dtype: str
    shape: list[int]
    data: memoryview


def unpack_rows(payload: bytes, bounds: ArrayBounds, most_rows: int) -> Rows:
    """Return the rows of a block; raises PeerEndedError for what is none of this model's, or has more than `most_rows`."""
    try:
        packed = msgspec.msgpack.decode(payload, type=PackedRows)
    except msgspec.DecodeError as error:
        raise PeerEndedError from error
    kept = range(packed.count) if packed.kept is None else packed.kept
    if packed.count > most_rows or not _is_part(packed.kept or (), packed.count):
        raise PeerEndedError
    numbers, codes = bounds.widths
    arrays = Arrays(
        _matrix(packed.numeric, "<f8", len(kept), numbers), _matrix(packed.categorical, "<i8", len(kept), codes)
    )
    if not bounds.admits(arrays.categorical):
        raise PeerEndedError
    return Rows(packed.count, kept, arrays)


def _is_part(kept: Sequence[int], count: int) -> bool:
    """Return whether `kept` are rows of `count`, in order."""
    return all(map(int.__lt__, kept, [*kept[1:], count]))


def _matrix(data: memoryview | None, dtype: str, rows: int, width: int) -> np.ndarray | None:
    """Return [rows, width]; None where the model has no such features. Raises PeerEndedError for another size."""
    if (data is None) != (width == 0) or (data is not None and data.nbytes != rows * width * np.dtype(dtype).itemsize):
        raise PeerEndedError
    return None if data is None else np.frombuffer(data, dtype).reshape(rows, width)


def pack_rows(count: int, kept: object, arrays: Arrays) -> bytes:
    """Return the rows of a block as bytes; `kept` is a range where all are good."""
    places = None if isinstance(kept, range) else kept
    numeric, categorical = (None if array is None else array.tobytes() for array in arrays)
    return msgspec.msgpack.encode((count, places, numeric, categorical))


def pack_outputs(outputs: Outputs) -> bytes:
    """Return the outputs of a block as bytes."""
    return msgspec.msgpack.encode(
        [(name, values.dtype.str, values.shape, values.tobytes()) for name, values in outputs.items()]
    )


def unpack_outputs(payload: bytes) -> Mapping[str, np.ndarray]:
    """Return what `pack_outputs` packed."""
    found = msgspec.msgpack.decode(payload, type=list[PackedOutput])
    return {one.name: np.frombuffer(one.data, one.dtype).reshape(one.shape) for one in found}
