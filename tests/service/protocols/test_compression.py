"""Compressed bodies, both ways."""

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproof.service.errors import ServiceError
from batchproof.service.protocols.compression import MOST_MEMBERS, Inflater, accepted, packed, unpacked

LIMIT = 1000
# A gzip header holds the time; without it the bytes, and so the tests' names, are the same in every process.
PACKED = gzip.compress(b"body", mtime=0)


@given(st.binary(max_size=LIMIT), st.sampled_from([b"gzip", b"deflate"]))
def test_what_was_packed_is_unpacked(body: bytes, encoding: bytes) -> None:
    """A packed body comes back, in either encoding."""
    assert unpacked(packed(body, encoding), [(b"content-encoding", encoding)], LIMIT) == body


@pytest.mark.parametrize("headers", [[], [(b"content-encoding", b"identity")], [(b"content-encoding", b"")]])
def test_a_plain_body_stays(headers: list[tuple[bytes, bytes]]) -> None:
    """Without an encoding, or with the one that changes nothing, the body is taken as it is."""
    assert unpacked(b"body", headers, LIMIT) == b"body"


def test_other_libraries_packing() -> None:
    """Names are read without regard to case, and x-gzip is gzip."""
    assert unpacked(PACKED, [(b"content-encoding", b" X-GZIP ")], LIMIT) == b"body"
    assert unpacked(zlib.compress(b"body"), [(b"content-encoding", b"Deflate")], LIMIT) == b"body"


def test_a_gzip_file_of_several_members() -> None:
    """Members are one body, empty ones too, whatever their number and wherever a piece of the body ends."""
    members = [b"", b"one,", b"", bytes(70_000), b"two"]
    body = b"".join(gzip.compress(member, mtime=0) for member in members * 40)
    plain = b"".join(members * 40)
    assert unpacked(body, [(b"content-encoding", b"gzip")], len(plain)) == plain
    for piece in (1, 7, 1 << 16):
        pieces = (body[start : start + piece] for start in range(0, len(body), piece))
        inflater = Inflater(b"gzip", lambda: next(pieces, b""))  # noqa: B023 - called before the next turn
        assert b"".join(iter(lambda: inflater.read(1000), b"")) == plain  # noqa: B023


def test_many_members_are_refused() -> None:
    """A body of ever so many empty members costs no more than the bound."""
    with pytest.raises(ServiceError, match=f"more than {MOST_MEMBERS} members"):
        unpacked(gzip.compress(b"", mtime=0) * (MOST_MEMBERS + 1), [(b"content-encoding", b"gzip")], LIMIT)


@pytest.mark.parametrize(
    "body, encoding, status",
    [
        (b"body", b"gzip", 400),
        (PACKED[:-1], b"gzip", 400),
        (PACKED + b"more", b"gzip", 400),
        (PACKED + b"\x1f", b"gzip", 400),
        (PACKED + PACKED[:-1], b"gzip", 400),
        (zlib.compress(b"body") * 2, b"deflate", 400),
        (gzip.compress(bytes(LIMIT), mtime=0) + PACKED, b"gzip", 413),
        (zlib.compress(b"body"), b"gzip", 400),
        (PACKED, b"deflate", 400),
        (b"", b"gzip", 400),
        (gzip.compress(bytes(LIMIT + 1), mtime=0), b"gzip", 413),
        (b"body", b"br", 415),
        (b"body", b"gzip, gzip", 415),
        (b"body", b"\xff", 415),
    ],
)
def test_refused_bodies(body: bytes, encoding: bytes, status: int) -> None:
    """Broken, too long and unknown encodings are told apart."""
    with pytest.raises(ServiceError) as caught:
        unpacked(body, [(b"content-encoding", encoding)], LIMIT)
    assert caught.value.status == status


def test_an_unknown_encoding_names_the_known_ones() -> None:
    """The refusal says in a header which encodings are taken (RFC 9110, 15.5.16)."""
    with pytest.raises(ServiceError) as caught:
        unpacked(b"body", [(b"content-encoding", b"br")], LIMIT)
    assert (b"accept-encoding", b"gzip, deflate") in caught.value.headers


def test_a_bomb_is_unpacked_no_further_than_the_limit() -> None:
    """64 MiB of zeros in 64 KiB take no more memory than the limit."""
    engine = zlib.compressobj(9)
    bomb = b"".join(engine.compress(bytes(1 << 20)) for _ in range(64)) + engine.flush()
    tracemalloc.start()
    with pytest.raises(ServiceError, match="larger than the limit"):
        unpacked(bomb, [(b"content-encoding", b"deflate")], LIMIT)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 1 << 20


@pytest.mark.parametrize(
    "wanted, chosen",
    [
        (None, None),
        (b"gzip", b"gzip"),
        (b"deflate", b"deflate"),
        (b"deflate, gzip", b"gzip"),
        (b"GZIP;q=0.5", b"gzip"),
        (b"gzip;q=0, deflate", b"deflate"),
        (b"gzip; q=0.000", None),
        (b"br, identity", None),
        (b",;=", None),
        (b"gzip;q=0.2, deflate;q=0.8", b"deflate"),
        (b"gzip;q=0.5, identity", None),
        (b"*", b"gzip"),
        (b"*;q=0.1, gzip;q=0", b"deflate"),
        (b"*;q=0", None),
    ],
)
def test_the_answers_encoding(wanted: bytes | None, chosen: bytes | None) -> None:
    """The answer is in an encoding that the client takes, or in none."""
    assert accepted([] if wanted is None else [(b"accept-encoding", wanted)]) == chosen
