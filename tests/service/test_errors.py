"""The one error shape."""

import orjson
import pytest

from batchproof.service import errors
from batchproof.service.errors import ServiceError


def test_every_refusal_has_the_same_fields() -> None:
    """Code, sentence, details and truncation, and the request's id beside them."""
    error = ServiceError(422, "invalid_rows", "Row 0.", details=[{"row": 0}], truncated=True)
    assert orjson.loads(error.as_json("id-1")) == {
        "error": {"code": "invalid_rows", "message": "Row 0.", "details": [{"row": 0}], "truncated": True},
        "request_id": "id-1",
    }


def test_headers_go_with_what_needs_them() -> None:
    """429 and 503 say when to try again, 405 what is taken."""
    assert errors.overloaded(5, 4).headers == [(b"retry-after", b"1")]
    assert errors.draining().headers == [(b"retry-after", b"1")]
    assert ServiceError(405, "x", "y", allow="POST").headers == [(b"allow", b"POST")]
    assert errors.late(1.5).headers == []


def test_broken_json_has_its_position() -> None:
    """The line and column of the fault are given; an empty body is called empty."""
    body = b'{"rows":\n [1,]}'
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError as found:
        error = errors.broken_json(body, found)
    assert (error.status, error.details[0]["line"]) == (400, 2)
    assert "the body is empty" in errors.broken_json(b" ", ValueError("x")).message


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"\x1f\x8b\x08\x00", "it looks like gzip, which needs Content-Encoding: gzip"),
        ('{"rows": [["é"]]}'.encode("latin-1"), "it is not UTF-8 at byte 12"),
        ('{"é": [NaN]}'.encode(), "NaN is not valid JSON; use null for a missing value"),
        (b"[1, Infinity]", "Infinity is not valid JSON; use null for a missing value"),
        (b"[-Infinity]", "Infinity is not valid JSON; use null for a missing value"),
        (b"[nan]", "nan is not valid JSON; use null for a missing value"),
        (b'["NaN", 1,]', "trailing comma is not allowed"),
    ],
)
def test_broken_json_is_told_in_words_that_help(body: bytes, fault: str) -> None:
    """What the parser says is replaced where it does not say what to do."""
    with pytest.raises(orjson.JSONDecodeError) as found:
        orjson.loads(body)
    assert errors.json_fault(body, found.value) == fault


def test_the_nearest_name_is_offered() -> None:
    """A typing error is met with the name that was meant, anything else with nothing."""
    assert errors.nearest("pengins", ["penguins", "adult"]) == " Did you mean 'penguins'?"
    assert errors.nearest("zzz", ["penguins"]) == ""


def test_text_of_a_file_moves_no_cursor() -> None:
    """What an engine says of a file is cut to a line, and what a terminal would obey is escaped."""
    error = RuntimeError("Node (a\x1b[2J\x9b\u202eb) é failed.\nmore")
    assert errors.first_line(error) == "Node (a\\x1b[2J\\x9b\\u202eb) é failed"
    assert errors.printable("é 日本 plain") == "é 日本 plain"
