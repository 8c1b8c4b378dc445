"""What the messages of an Arrow stream unpack to, looked up before anything is unpacked.

A compressed buffer begins with its length before compression (int64, little-endian; -1: it is not compressed). Where the
buffers are stands in the message's metadata, a FlatBuffer that pyarrow has verified by the time it gives the message.
Source: the Arrow columnar format, sections "Encapsulated message format" and "Compression".
"""

import io
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from pyarrow import ipc

from batchproof.service.tables.limits.budget import Unpacking

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

DICTIONARY_BATCH, RECORD_BATCH = 2, 3
HEADER_TYPE, HEADER = 1, 2  # fields of Message
DATA = 1  # of DictionaryBatch
BUFFERS, COMPRESSION = 2, 3  # of RecordBatch


class CheckedMessages(io.RawIOBase):
    """An Arrow stream whose messages are each checked before a byte of them is given on."""

    def __init__(self, file: BinaryIO, unpacking: Unpacking) -> None:
        """Read the stream in `file`; what is too large raises 413 from `readinto`."""
        self._messages = _messages(file, unpacking)
        self._left = memoryview(b"")

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill `buffer` with at least a byte, or return 0 at the end."""
        target = memoryview(buffer).cast("B")
        if not self._left:
            self._left = memoryview(next(self._messages, b"")).cast("B")
        taken = min(len(target), len(self._left))
        target[:taken] = self._left[:taken]
        self._left = self._left[taken:]
        return taken


def _messages(file: BinaryIO, unpacking: Unpacking) -> Iterator[Any]:
    reader = ipc.MessageReader.open_stream(file)
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            return
        unpacking.add(unpacked_bytes(message))
        yield message.serialize()


def unpacked_bytes(message: Any) -> int:
    """Return what a message's body takes once unpacked; raises OSError for buffers that are not in it."""
    table = _Table(memoryview(message.metadata), 0)
    kind = table.number(HEADER_TYPE, "<B")
    batch = table.table(HEADER)
    if kind == DICTIONARY_BATCH and batch is not None:
        batch = batch.table(DATA)
    body = memoryview(b"" if message.body is None else message.body)
    if kind not in (DICTIONARY_BATCH, RECORD_BATCH) or batch is None or batch.table(COMPRESSION) is None:
        return len(body)
    return sum(_buffer_bytes(body, offset, length) for offset, length in batch.pairs(BUFFERS))


def _buffer_bytes(body: memoryview, offset: int, length: int) -> int:
    if length == 0:
        return 0
    if offset < 0 or length < 8 or offset + length > len(body):
        raise OSError("a buffer is not within its message")
    (stated,) = struct.unpack_from("<q", body, offset)
    if stated < -1:
        raise OSError("a buffer has a negative length")
    return length - 8 if stated == -1 else int(stated)


class _Table:
    """A table of a verified FlatBuffer: fields are found through its vtable."""

    def __init__(self, data: memoryview, at: int) -> None:
        """Follow the offset that stands at `at`."""
        self._data = data
        self._at = at + struct.unpack_from("<I", data, at)[0]

    def number(self, field: int, form: str) -> int:
        """Return a number; 0 where the field is absent."""
        at = self._place(field)
        return int(struct.unpack_from(form, self._data, at)[0]) if at else 0

    def table(self, field: int) -> "_Table | None":
        """Return the table that a field refers to."""
        at = self._place(field)
        return _Table(self._data, at) if at else None

    def pairs(self, field: int) -> Iterator[tuple[int, int]]:
        """Yield a vector of structs of two int64."""
        at = self._place(field)
        if not at:
            return
        at += struct.unpack_from("<I", self._data, at)[0]
        (count,) = struct.unpack_from("<I", self._data, at)
        yield from struct.iter_unpack("<qq", self._data[at + 4 : at + 4 + 16 * count])

    def _place(self, field: int) -> int:
        vtable = self._at - struct.unpack_from("<i", self._data, self._at)[0]
        (size,) = struct.unpack_from("<H", self._data, vtable)
        entry = 4 + 2 * field
        offset = struct.unpack_from("<H", self._data, vtable + entry)[0] if entry < size else 0
        return self._at + offset if offset else 0
