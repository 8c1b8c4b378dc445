"""Frames between a worker and its writing process: JSON, and behind it arrays as they are in memory.

Both ends are programs of this package on one machine, joined by a pair of sockets that nobody else has.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np
import orjson

from batchproof.service.features.arrays import Arrays, Outputs
from batchproof.service.journal.entries import ROWS, Group, Note, Source

OPTIONS, SOURCE, GROUP, RETIRE = b"O", b"S", b"G", b"R"  # kinds of frames
HEAD = struct.Struct("<cxxxIQ")  # kind, bytes of the JSON, bytes of the arrays
ALIGNED = 8  # bytes: arrays begin at a multiple of it
Part: TypeAlias = "bytes | memoryview"


class Kept(NamedTuple):
    """Answered requests that are to be recorded, in the order of their notes."""

    notes: Sequence[Note]
    arrays: Sequence[Arrays]
    outputs: Sequence[Outputs]


class Frame(NamedTuple):
    """A received frame."""

    kind: bytes
    content: Any
    arrays: memoryview


def frame(kind: bytes, content: Any, arrays: Sequence[np.ndarray] = ()) -> list[Part]:
    """Return the parts of a frame, which go one after another; arrays must be contiguous and stay as they are."""
    text = orjson.dumps(content)
    text += b" " * (-len(text) % ALIGNED)
    views = [array.data.cast("B") for array in arrays if array.size]
    return [HEAD.pack(kind, len(text), sum([len(view) for view in views])) + text, *views]


def group_frame(number: int, source: Source, kept: Kept, times: Sequence[tuple[float, int]]) -> list[Part]:
    """Return the frame of answered requests of the source `number`; `times` are as in `Group`."""
    arrays = [
        *_joined([one[0] for one in kept.arrays]),
        *_joined([one[1] for one in kept.arrays]),
        *[table for name in source.outputs for table in _joined([one[name] for one in kept.outputs])],
    ]
    return frame(GROUP, [number, times, kept.notes], arrays)


def group_of(source: Source, times: Sequence[tuple[float, int]], notes: Sequence[Note], arrays: memoryview) -> Group:
    """Return what `group_frame` sent."""
    rows = sum([note[ROWS] for note in notes])
    place = 0

    def table(dtype: str, width: int) -> np.ndarray:
        nonlocal place
        values = np.frombuffer(arrays, dtype, rows * width, place).reshape(rows, width)
        place += values.nbytes
        return values

    codes = sum(kind == "categorical" for _, kind in source.features)
    numbers = len(source.features) - codes
    inputs = Arrays(table("float64", numbers) if numbers else None, table("int64", codes) if codes else None)
    outputs = {name: table(dtype, width) for name, (dtype, width) in source.outputs.items()}
    return Group(times, notes, inputs, outputs)


class FrameReader:
    """Frames out of bytes as they come."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._bytes = bytearray()

    def feed(self, data: bytes) -> None:
        """Take what came."""
        self._bytes += data

    def frames(self) -> Iterator[Frame]:
        """Give the frames that are whole; each has memory of its own."""
        place, data = 0, self._bytes
        while len(data) - place >= HEAD.size:
            kind, text_bytes, array_bytes = HEAD.unpack_from(data, place)
            middle = place + HEAD.size + text_bytes
            if len(data) < middle + array_bytes:
                break
            with memoryview(data) as whole:
                text, arrays = bytes(whole[place + HEAD.size : middle]), bytes(whole[middle : middle + array_bytes])
            place = middle + array_bytes
            yield Frame(kind, orjson.loads(text), memoryview(arrays))
        del data[:place]


def _joined(parts: Sequence[np.ndarray | None]) -> list[np.ndarray]:
    """Return the rows of all requests in one array, or nothing where there is no such kind."""
    if parts[0] is None:  # then no part has any
        return []
    table = parts[0] if len(parts) == 1 else np.concatenate(cast("Sequence[np.ndarray]", parts))
    return [np.ascontiguousarray(table)]  # joined columns stay columns, which a frame does not know
