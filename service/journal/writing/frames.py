"""Frames between a worker and its writing process: JSON, and behind it arrays as they are in memory.

Both ends are programs of this package on one machine, joined by a pair of sockets that nobody else has.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np
import orjson

from batchproof.service.features.arrays import Arrays, Outputs
from batchproof.service.journal.entries import Group, Note, Notes, Source

OPTIONS, SOURCE, GROUP, RETIRE = b"O", b"S", b"G", b"R"  # kinds of frames
HEAD = struct.Struct("<cxxxIQ")  # kind, bytes of the JSON, bytes of the arrays
ALIGNED = 8  # bytes: arrays begin at a multiple of it
BUFFER_BYTES = 1 << 20  # of a reader that has no larger frame
Part: TypeAlias = "bytes | memoryview"


class Kept(NamedTuple):
    """Answered requests of one run that are to be recorded, and their rows."""

    notes: Sequence[Note]
    arrays: Arrays  # [rows, features], in the order of the notes
    outputs: Outputs  # [rows, width]


class Frame(NamedTuple):
    """A received frame. Its arrays are those of the reader, which the next bytes overwrite."""

    kind: bytes
    content: Any
    arrays: memoryview


def frame(kind: bytes, content: Any, arrays: Sequence[np.ndarray] = ()) -> list[Part]:
    """Return the parts of a frame, which go one after another; arrays must be contiguous and stay as they are."""
    text = orjson.dumps(content)
    text += b" " * (-len(text) % ALIGNED)
    views = [array.data.cast("B") for array in arrays if array.size]
    return [HEAD.pack(kind, len(text), sum([len(view) for view in views])) + text, *views]


def group_frame(number: int, source: Source, runs: Sequence[Kept], times: Sequence[tuple[float, int]]) -> list[Part]:
    """Return the frame of answered requests of the source `number`; `times` are as in `Group`."""
    first = runs[0]
    arrays = [
        _joined([run.arrays[kind] for run in runs]) for kind, table in enumerate(first.arrays) if table is not None
    ]
    arrays += [_joined([run.outputs[name] for run in runs]) for name in source.outputs]
    notes = Notes.of(first.notes if len(runs) == 1 else [note for run in runs for note in run.notes])
    return frame(GROUP, [number, times, *notes], arrays)


def group_of(source: Source, times: Sequence[tuple[float, int]], notes: Notes, arrays: memoryview) -> Group:
    """Return what `group_frame` sent."""
    rows = notes.rows
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
        self._buffer = bytearray(BUFFER_BYTES)
        self._start = self._end = 0  # of what was not given

    def room(self) -> memoryview:
        """Return where the next bytes belong; frames that were given are no longer valid."""
        rest = self._end - self._start
        size = max(self._next_bytes(), BUFFER_BYTES)
        if size > len(self._buffer) or (not rest and size < len(self._buffer)):
            buffer = bytearray(size)
            buffer[:rest] = self._buffer[self._start : self._end]
            self._buffer = buffer
        elif self._start:
            self._buffer[:rest] = self._buffer[self._start : self._end]
        self._start, self._end = 0, rest
        return memoryview(self._buffer)[rest:]

    def took(self, size: int) -> None:
        """Note that so many bytes came into the room."""
        self._end += size

    def frames(self) -> Iterator[Frame]:
        """Give the frames that are whole."""
        whole = memoryview(self._buffer)
        while (size := self._next_bytes()) and size <= self._end - self._start:
            kind, text_bytes, _ = HEAD.unpack_from(whole, self._start)
            text = self._start + HEAD.size
            self._start += size
            yield Frame(kind, orjson.loads(whole[text : text + text_bytes]), whole[text + text_bytes : self._start])

    def _next_bytes(self) -> int:
        """Return the size of the frame that begins what was not given; 0 where its head is not there."""
        if self._end - self._start < HEAD.size:
            return 0
        _, text_bytes, array_bytes = HEAD.unpack_from(self._buffer, self._start)
        return HEAD.size + int(text_bytes) + int(array_bytes)


def _joined(parts: Sequence[np.ndarray | None]) -> np.ndarray:
    """Return the rows of all runs in one array."""
    table = parts[0] if len(parts) == 1 else np.concatenate(cast("Sequence[np.ndarray]", parts))
    return np.ascontiguousarray(table)  # joined columns stay columns, which a frame does not know
