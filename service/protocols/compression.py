"""Bodies compressed with gzip or deflate, bounded while they are unpacked."""

import zlib
from collections.abc import Callable

from batchproof.service import errors
from batchproof.service.errors import ServiceError
from batchproof.service.protocols.accept import qualities
from batchproof.service.protocols.interface import Headers

WINDOW = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}  # deflate is the zlib container (RFC 9110)
ALIASES = {b"x-gzip": b"gzip"}
ENCODING_HEADER = b"content-encoding"
GZIP_MAGIC = b"\x1f\x8b"
PIECE_BYTES = 1 << 16  # of packed bytes that are looked at together: zlib copies what stands behind a member
UNPACKED_PIECE_BYTES = 1 << 20  # unpacked at once: what is beyond a bound takes no more memory than that
MOST_MEMBERS = 10_000  # of one gzip file; each costs time, and an empty one has 20 bytes


class EncodingError(ServiceError):
    """415 for an unsupported encoding; the answer says which are supported (RFC 9110, 15.5.16)."""

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers that go with this refusal in every protocol."""
        return [*super().headers, (b"accept-encoding", b", ".join(WINDOW))]


class Inflater:
    """A gzip file, of one member or several, or a deflate file, as it was before it was packed."""

    def __init__(self, encoding: bytes, read: Callable[[], bytes]) -> None:
        """Unpack what `read` returns piece by piece, nothing at the end of the body."""
        self._encoding = encoding
        self._read = read
        self._engine = zlib.decompressobj(WINDOW[encoding])
        self._members = 1
        self._next = b""

    def read(self, size: int) -> bytes:
        """Return from 1 to `size` bytes, or none at the end; raises 400 for what is not packed as it says."""
        while True:
            if self._engine.eof and not self._has_further_member():
                return b""
            source = self._engine.unconsumed_tail or self._next or self._read()
            self._next = b""
            try:
                plain = self._engine.decompress(source, size)
            except zlib.error as error:
                raise self._broken(str(error)) from error
            if plain:
                return plain
            if not source and not self._engine.eof:
                raise self._broken("it is cut off")

    def _has_further_member(self) -> bool:
        rest = self._engine.unused_data or self._read()
        while 0 < len(rest) < len(GZIP_MAGIC) and (more := self._read()):
            rest += more
        if not rest:
            return False
        if self._encoding != b"gzip" or not rest.startswith(GZIP_MAGIC):
            raise self._broken("there are bytes after its end")
        self._members += 1
        if self._members > MOST_MEMBERS:
            raise self._broken(f"it has more than {MOST_MEMBERS} members")
        self._engine, self._next = zlib.decompressobj(WINDOW[self._encoding]), rest
        return True

    def _broken(self, why: str) -> ServiceError:
        return ServiceError(400, "broken_encoding", f"The body is not {self._encoding.decode()}: {why}.")


def header(headers: Headers, name: bytes) -> bytes | None:
    """Return the value of the header `name` (lower case), or None."""
    for key, value in headers:
        if key == name:
            return value
    return None


def encoding_of(value: bytes | None) -> bytes | None:
    """Return the encoding that a Content-Encoding names, None for a plain body; raises 415 for an unsupported one."""
    encoding = (value or b"identity").strip().lower() or b"identity"
    if encoding == b"identity":
        return None
    encoding = ALIASES.get(encoding, encoding)
    if encoding not in WINDOW:
        raise EncodingError(
            415, "unsupported_encoding", f"Content-Encoding {encoding.decode('latin-1')!r:.40} is not gzip or deflate."
        )
    return encoding


def unpacked(body: bytes, headers: Headers, limit_bytes: int, take: Callable[[int], None] = lambda _: None) -> bytes:
    """Return the body as it was before Content-Encoding; raises 400, 413 or 415, and what `take` raises.

    `take` is called with the length of each piece as it is unpacked. The ASGI application does so before a protocol
    sees the body: no protocol's reading looks at the header.
    """
    encoding = encoding_of(header(headers, ENCODING_HEADER))
    if encoding is None:
        return body
    packed_pieces = (body[start : start + PIECE_BYTES] for start in range(0, len(body), PIECE_BYTES))
    inflater = Inflater(encoding, lambda: next(packed_pieces, b""))
    pieces, left_bytes = [], limit_bytes + 1
    while piece := inflater.read(min(left_bytes, UNPACKED_PIECE_BYTES)):
        take(len(piece))
        pieces.append(piece)
        left_bytes -= len(piece)
        if not left_bytes:
            raise errors.body_too_large(limit_bytes)
    return b"".join(pieces)


def accepted(headers: Headers) -> bytes | None:
    """Return the encoding that the client prefers for answers, gzip before deflate where both are as good, or None."""
    wanted = header(headers, b"accept-encoding")
    if wanted is None:
        return None
    offers = qualities(wanted)
    everything = offers.get(b"*", 0.0)
    offered = {name: offers.get(name, everything) for name in WINDOW}
    best = max(offered, key=lambda name: offered[name])
    return best if offered[best] > 0 and offered[best] >= offers.get(b"identity", 0.0) else None


def packed(body: bytes, encoding: bytes) -> bytes:
    """Return the body in `encoding`, gzip or deflate; the same body gives the same bytes."""
    engine = zlib.compressobj(level=1, wbits=WINDOW[encoding])
    return engine.compress(body) + engine.flush()
