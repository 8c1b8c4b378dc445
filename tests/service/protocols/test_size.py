"""What a JSON body may hold is bounded before it is parsed."""

import json

import pytest

from batchproof.service.errors import ServiceError
from batchproof.service.protocols.json_text.json_body import check_size


@pytest.mark.parametrize(
    "body",
    [
        b'{"rows": [' + b"{}," * 30_000 + b"{}]}",
        b'{"dataframe_split": {"data": [' + b"[]," * 30_000 + b"[]]}}",
        b'{"rows": [[' + b"1," * 100_000 + b"1]]}",
        b'{"rows": [{' + b",".join(b'"%d":1' % number for number in range(100_000)) + b"}]}",
        b'{"columns": [' + b'"a",' * 100_000 + b'"a"], "rows": []}',
    ],
    ids=["objects", "lists", "values", "keys", "columns"],
)
def test_bodies_of_too_many_parts_are_refused(body: bytes) -> None:
    """A body that holds more objects, lists or values than the most rows have is refused as too many rows."""
    with pytest.raises(ServiceError) as caught:
        check_size(body, 1000, 5)
    assert (caught.value.status, caught.value.code) == (422, "too_many_rows")


def test_rows_up_to_the_limit_pass() -> None:
    """The most rows pass, also with texts that are full of brackets and commas."""
    check_size(json.dumps({"rows": [[1, 2, 3, 4, 5]] * 1000}).encode(), 1000, 5)
    check_size(json.dumps({"rows": [["[{[{[{, and so on, and so on", 2, 3, 4, 5]] * 1000}).encode(), 1000, 5)


def test_a_cut_body_is_refused_as_broken() -> None:
    """Where so many brackets are not JSON, the refusal says so."""
    with pytest.raises(ServiceError, match="The body is not JSON") as caught:
        check_size(b'{"rows": [' + b"[ " * 30_000, 1000, 5)
    assert (caught.value.status, caught.value.code) == (400, "broken_json")
