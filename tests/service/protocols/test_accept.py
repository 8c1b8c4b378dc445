"""Which type an answer has where Accept names several, by quality and wildcards."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproof.service.protocols.accept import preferred, qualities
from batchproof.service.tables.formats import ARROW_STREAM, CSV, JSON, LINES, Format, answer_format, wants_table

OFFERED = ("application/json", "text/csv", "application/jsonlines")


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, "application/json"),
        (b"", "application/json"),
        (b" , ;", "application/json"),
        (b"*/*", "application/json"),
        (b"text/csv", "text/csv"),
        (b"TEXT/CSV; header=present", "text/csv"),
        (b"text/csv;q=0.9, application/json", "application/json"),
        (b"text/csv, application/json", "text/csv"),
        (b"application/json, text/csv", "application/json"),
        (b"text/*", "text/csv"),
        (b"text/*;q=0.5, */*;q=0.1", "text/csv"),
        (b"*/*, text/csv;q=0.1", "application/json"),
        (b"application/json, text/plain, */*", "application/json"),
        (b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/json"),
        (b"application/json;q=0, */*", "text/csv"),
        (b"application/*;q=0.2, text/csv;q=0.3", "text/csv"),
        (b"text/csv;q=high, application/json;q=0.9", "text/csv"),
        (b"text/csv;q=nan", "text/csv"),
        (b"text/csv;q=0", None),
        (b"image/png", None),
    ],
)
def test_the_best_of_what_is_offered(accept: bytes | None, chosen: str | None) -> None:
    """Quality goes first, then a name before a wildcard, then the order of the header, then that of the offer."""
    assert preferred(accept, OFFERED) == chosen


@given(st.binary(max_size=40))
def test_any_header_is_read(accept: bytes) -> None:
    """Whatever bytes a client sends, a type that is offered is chosen, or none, and qualities are from 0 to 1."""
    assert preferred(accept, OFFERED) in (*OFFERED, None)
    assert all(0 <= quality <= 1 for quality in qualities(accept).values())


@pytest.mark.parametrize(
    ("accept", "of_json", "of_csv"),
    [
        (b"*/*", JSON, CSV),
        (b"application/json", JSON, JSON),
        (b"text/csv;q=0.5, application/json", JSON, JSON),
        (b"text/*", CSV, CSV),
        (b"application/x-ndjson", LINES, LINES),
        (b"application/vnd.apache.arrow.stream, */*;q=0.1", ARROW_STREAM, ARROW_STREAM),
        (b"image/png", JSON, CSV),
    ],
)
def test_the_format_of_a_tables_answer(accept: bytes, of_json: Format, of_csv: Format) -> None:
    """A table is answered as Accept prefers, else as it came; JSON rows are a table only where one is preferred."""
    assert (answer_format(accept, JSON), answer_format(accept, CSV)) == (of_json, of_csv)
    assert wants_table({b"accept": accept, b"content-type": b"application/json"}) is (of_json is not JSON)
    assert wants_table({b"accept": accept, b"content-type": b"text/csv; charset=utf-8"}) is True
