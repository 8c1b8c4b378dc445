"""Bodies compressed with gzip or deflate, bounded while they are unpacked."""

import zlib

from batchproof.service import errors
from batchproof.service.errors import ServiceError
from batchproof.service.protocols.interface import Headers

WINDOW = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}  # deflate is the zlib container (RFC 9110)
ALIASES = {b"x-gzip": b"gzip"}
ENCODING_HEADER = b"content-encoding"


class EncodingError(ServiceError):
    """415 for an encoding that is not taken; the answer says which are (RFC 9110, 15.5.16)."""

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers that go with this refusal in every dialect."""
        return [*super().headers, (b"accept-encoding", b", ".join(WINDOW))]


def header(headers: Headers, name: bytes) -> bytes | None:
    """Return the value of the header `name` (lower case), or None."""
    for key, value in headers:
        if key == name:
            return value
    return None


def unpacked(body: bytes, headers: Headers, limit_bytes: int) -> bytes:
    """Return the body as it was before Content-Encoding; raises 400, 413 or 415.

    The ASGI application does so before a dialect sees the body: no dialect's reading looks at the header.
    """
    encoding = (header(headers, ENCODING_HEADER) or b"identity").strip().lower()
    if encoding == b"identity":
        return body
    encoding = ALIASES.get(encoding, encoding)
    if encoding not in WINDOW:
        raise EncodingError(
            415, "unsupported_encoding", f"Content-Encoding {encoding.decode('latin-1')!r:.40} is not gzip or deflate."
        )
    engine = zlib.decompressobj(WINDOW[encoding])
    try:
        plain = engine.decompress(body, limit_bytes + 1)
    except zlib.error as error:
        raise ServiceError(400, "broken_encoding", f"The body is not {encoding.decode()}: {error}.") from error
    if len(plain) > limit_bytes:
        raise errors.body_too_large(limit_bytes)
    if not engine.eof or engine.unused_data:
        raise ServiceError(400, "broken_encoding", f"The {encoding.decode()} body is cut off or has bytes after it.")
    return plain


def accepted(headers: Headers) -> bytes | None:
    """Return the encoding that the client asks answers to be in, gzip before deflate, or None."""
    wanted = header(headers, b"accept-encoding")
    if wanted is None:
        return None
    offers = {}
    for offer in wanted.lower().split(b","):
        name, _, parameter = offer.partition(b";")
        offers[name.strip()] = parameter.replace(b" ", b"") not in (b"q=0", b"q=0.0", b"q=0.00", b"q=0.000")
    return next((name for name in WINDOW if offers.get(name)), None)


def packed(body: bytes, encoding: bytes) -> bytes:
    """Return the body in `encoding`, gzip or deflate; the same body gives the same bytes."""
    engine = zlib.compressobj(level=1, wbits=WINDOW[encoding])
    return engine.compress(body) + engine.flush()
