"""How a native body is packed and what it says it is."""

import gzip
import json
import zlib

import pytest

from service import bundle, model
from service.engine import EngineOptions
from service.errors import ServiceError
from service.wire.dialect import Call, Codec, Limits
from service.wire.native import FIELDS, Native
from tests.bundles import make_bundle, random_rows, signature_of

BODY = json.dumps({"rows": random_rows(signature_of(), 3)}).encode()
# Without the time that gzip writes into its header, so that the tests' names are the same in every process.
PACKED = gzip.compress(BODY, mtime=0)


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    """Return the codec of a small model that takes bodies of up to 4 kB."""
    folder = tmp_path_factory.mktemp("models")
    loaded = model.load(bundle.read(make_bundle(folder)), EngineOptions(device="cpu"), 512)
    return Native().codec(loaded, Limits(max_body_bytes=4096))


@pytest.mark.parametrize("encoding, packed", [(b"gzip", PACKED), (b"deflate", zlib.compress(BODY))])
def test_packed_bodies_are_the_same_rows(codec: Codec, encoding: bytes, packed: bytes) -> None:
    """A gzip or deflate body gives the arrays that it gives unpacked."""
    plain = codec.decode(Call(BODY, [], "id")).arrays
    found = codec.decode(Call(packed, [(b"content-encoding", encoding)], "id")).arrays
    assert [array.tobytes() for array in found if array is not None] == [
        array.tobytes() for array in plain if array is not None
    ]


@pytest.mark.parametrize(
    "body, headers, status",
    [
        (BODY, [(b"content-encoding", b"br")], 415),
        (PACKED[:-9], [(b"content-encoding", b"gzip")], 400),
        (gzip.compress(b" " * 5000, mtime=0), [(b"content-encoding", b"gzip")], 413),
        (b"<rows/>", [(b"content-type", b"application/xml")], 415),
        (b"<rows/>", [(b"content-type", b"application/json")], 400),
    ],
)
def test_what_cannot_be_read_is_refused_for_what_it_is(
    codec: Codec, body: bytes, headers: list[tuple[bytes, bytes]], status: int
) -> None:
    """An unknown packing, a broken or too large one, and a foreign type have a status of their own."""
    if dict(headers).get(b"content-encoding") == b"br":
        body = b"\x8b" + body
    with pytest.raises(ServiceError) as refused:
        codec.decode(Call(body, headers, "id"))
    assert refused.value.status == status


@pytest.mark.parametrize(
    "stated", [b"", b"text/plain", b"application/x-www-form-urlencoded", b"application/problem+json"]
)
def test_what_libraries_send_unasked_is_taken(codec: Codec, stated: bytes) -> None:
    """JSON needs no content type, and what curl says by itself is no fault."""
    headers = [(b"content-type", stated)] if stated else []
    assert codec.decode(Call(b"\n" + BODY, headers, "id")).rows == 3


EXAMPLE = '{"rows": [{"length_mm": 1, "island": "Oslo", ...}]}.'


@pytest.mark.parametrize(
    "body, sentence",
    [
        ("[[1]]", f"The body must be an object such as {EXAMPLE}"),
        ("{}", f"rows must be a list of rows. Rows go in a list: {EXAMPLE}"),
        ('{"sepal": 1}', f"Unknown field 'sepal'; known are {', '.join(FIELDS)}. Rows go in a list: {EXAMPLE}"),
        ('{"row": []}', f"Did you mean 'rows'? Rows go in a list: {EXAMPLE}"),
        ('{"rows": 1}', "rows must be a list of rows."),
        ('{"rows": [], "sepal": 1}', f"Unknown field 'sepal'; known are {', '.join(FIELDS)}."),
    ],
)
def test_a_body_without_rows_is_shown_one_with_rows(codec: Codec, body: str, sentence: str) -> None:
    """A bare row or list, or another name for the rows, is refused with an example of the model's own features."""
    with pytest.raises(ServiceError) as refused:
        codec.decode(Call(body.encode(), [], "id"))
    assert refused.value.status == 422
    assert refused.value.message.endswith(sentence)
