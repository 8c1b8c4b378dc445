"""What a native body says it is, and what is said of one that is something else."""

import json

import pytest

from batchproof.service.bundle import reader as bundle
from batchproof.service.errors import ServiceError
from batchproof.service.inference import model
from batchproof.service.inference.engine import EngineOptions
from batchproof.service.protocols.interface import Call, Codec, Limits
from batchproof.service.protocols.native.protocol import FIELDS, Native
from tests.bundles import make_bundle, random_rows, signature_of

BODY = json.dumps({"rows": random_rows(signature_of(), 3)}).encode()


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    """Return the codec of a small model."""
    folder = tmp_path_factory.mktemp("models")
    loaded = model.load(bundle.read(make_bundle(folder)), EngineOptions(device="cpu"), 512)
    return Native().codec(loaded, Limits())


def test_a_byte_order_mark_is_passed_over(codec: Codec) -> None:
    """A body with a byte order mark before it is the same body."""
    wanted = codec.decode(Call(BODY, [], "id")).arrays
    for given in (b"\xef\xbb\xbf" + BODY, b"\xef\xbb\xbf \n" + BODY):
        arrays = codec.decode(Call(given, [], "id")).arrays
        assert [array.tobytes() for array in arrays if array is not None] == [
            array.tobytes() for array in wanted if array is not None
        ]


@pytest.mark.parametrize(
    "body, headers, status",
    [
        (b"<rows/>", [(b"content-type", b"application/xml")], 415),
        (b"<rows/>", [(b"content-type", b"application/json")], 400),
    ],
)
def test_what_cannot_be_read_is_refused_for_what_it_is(
    codec: Codec, body: bytes, headers: list[tuple[bytes, bytes]], status: int
) -> None:
    """A foreign type and broken JSON have a status of their own."""
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


@pytest.mark.parametrize(
    ("body", "end"),
    [
        (b"length_mm,island\n1,Oslo\n", "(line 1, column 1); for a table send Content-Type: text/csv."),
        (
            "größe\n1\n".encode("latin-1"),
            "not UTF-8 at byte 2 (line 1, column 1); for a table send Content-Type: text/csv.",
        ),
        (b"\x1f\x8b\x08\x00", "it looks like gzip, which needs Content-Encoding: gzip (line 1, column 1)."),
        (b'{"rows": [', "unexpected end of data (line 1, column 11)."),
        (b'\xef\xbb\xbf{"rows": [', "unexpected end of data (line 1, column 11)."),
        (b" ", "the body is empty (line 1, column 1)."),
    ],
)
def test_a_table_is_told_how_it_is_sent(codec: Codec, body: bytes, end: str) -> None:
    """A body that begins as no JSON does may be a table, and is told how tables come."""
    with pytest.raises(ServiceError) as refused:
        codec.decode(Call(body, [], "id"))
    assert (refused.value.status, refused.value.code) == (400, "broken_json")
    assert refused.value.message.endswith(end)


@pytest.mark.parametrize("word", ["stop", "request"])
def test_a_bad_row_stops_the_request_in_both_words(codec: Codec, word: str) -> None:
    """What tables call "stop" is taken here too, beside "request"."""
    with pytest.raises(ServiceError) as refused:
        codec.decode(Call(json.dumps({"rows": [[]], "on_error": word}).encode(), [], "id"))
    assert refused.value.code == "invalid_rows"


EXAMPLE = '{"rows": [{"length_mm": 1, "island": "Oslo", ...}]}.'


@pytest.mark.parametrize(
    "body, sentence",
    [
        ("[[1]]", f"The body must be an object such as {EXAMPLE}"),
        ("{}", f"rows must be a list of rows. Example: {EXAMPLE}"),
        ('{"sepal": 1}', f"Unknown field 'sepal'; known are {', '.join(FIELDS)}. Example: {EXAMPLE}"),
        ('{"row": []}', f"Did you mean 'rows'? Example: {EXAMPLE}"),
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
