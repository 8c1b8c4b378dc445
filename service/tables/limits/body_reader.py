"""The bytes of a table's body, unpacked and buffered, in bounded memory."""

import io
from typing import TYPE_CHECKING, BinaryIO, cast

from batchproof.service import errors
from batchproof.service.errors import ServiceError
from batchproof.service.protocols.compression import PIECE_BYTES, Inflater, encoding_of

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BUFFER_BYTES = 1 << 16  # read at once
MAX_READ_BYTES = 64 << 20  # one record batch of an Arrow stream comes in one read


class Unpacked(io.RawIOBase):
    """A gzip or deflate file as it was before, in bounded memory."""

    def __init__(self, packed: io.RawIOBase, encoding: bytes, limit_bytes: int) -> None:
        """Unpack what `packed` gives; beyond `limit_bytes` it is refused with 413."""
        self._inflater = Inflater(encoding, lambda: packed.read(PIECE_BYTES) or b"")
        self._limit_bytes = limit_bytes
        self._left_bytes = limit_bytes

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill `buffer` with at least a byte, or return 0 at the end; raises 400 or 413."""
        target = memoryview(buffer).cast("B")
        plain = self._inflater.read(len(target))
        self._left_bytes -= len(plain)
        if self._left_bytes < 0:
            raise errors.body_too_large(self._limit_bytes)
        target[: len(plain)] = plain
        return len(plain)


class Buffered(io.BufferedReader):
    """Buffered reading that refuses to hold more than MAX_READ_BYTES at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to `size` bytes; raises 413 for a size that only a broken or a huge record batch asks for."""
        if size is not None and size > MAX_READ_BYTES:
            raise ServiceError(
                413, "batch_too_large", f"A record batch may have at most {MAX_READ_BYTES} bytes; send smaller ones."
            )
        return super().read(size)


def opened(body: io.RawIOBase, encoding: bytes, limit_bytes: int) -> BinaryIO:
    """Return `body` as a buffered file, unpacked where it has a Content-Encoding; raises 415."""
    named = encoding_of(encoding)
    plain = body if named is None else Unpacked(body, named, limit_bytes)
    return cast(BinaryIO, Buffered(plain, BUFFER_BYTES))
