"""Refusals of a process that has read a stranger's bytes: whole, or as good as its end."""

from typing import Any

import msgspec
import pytest

from batchproof.service.errors import ServiceError
from batchproof.service.runtime.processes import refusals
from batchproof.service.runtime.processes.frames import PeerEndedError

DETAILS = [{"row": 3, "feature": "island", "message": "a number was expected"}]
PARTS = {
    "status": 422,
    "code": "invalid_rows",
    "message": "No.",
    "details": DETAILS,
    "truncated": True,
    "retry_after_s": 2,
    "allow": None,
    "authenticate": "Bearer",
}


def test_a_refusal_comes_back_whole() -> None:
    """Every part that answers it is there on the other side."""
    refusal = ServiceError(422, "invalid_rows", "No.", details=DETAILS, truncated=True, retry_after_s=2)
    found = refusals.unpacked(refusals.packed(refusal))

    assert vars(found) == vars(refusal)


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": "422"},
        {"status": True},
        {"status": 200},
        {"status": 600},
        {"code": "a\nb"},
        {"code": ""},
        {"code": "a" * 65},
        {"message": ["No."]},
        {"details": {}},
        {"details": [1]},
        {"truncated": 1},
        {"retry_after_s": -1},
        {"allow": "GET\r\nset-cookie: a"},
        {"authenticate": "é"},
    ],
)
def test_a_refusal_out_of_bounds_goes_no_further(wrong: dict[str, Any]) -> None:
    """Its status is one of refusals, its code a label in metrics, and headers hold no line ends."""
    refusals.unpacked(msgspec.msgpack.encode(list(PARTS.values())))
    with pytest.raises(PeerEndedError):
        refusals.unpacked(msgspec.msgpack.encode(list((PARTS | wrong).values())))


@pytest.mark.parametrize("payload", [b"", b"{}", b"\x91" * 100_000, msgspec.msgpack.encode([422, "bad", "No."])])
def test_what_is_no_refusal_goes_no_further(payload: bytes) -> None:
    """Other bytes, and parts that are missing."""
    with pytest.raises(PeerEndedError):
        refusals.unpacked(payload)
