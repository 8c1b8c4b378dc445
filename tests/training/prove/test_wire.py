"""How much of a file is structure is read from its bytes, before protobuf unpacks any of it."""

import pytest
from google.protobuf.message import DecodeError

from batchproof.training.prove.limits import MAX_STRUCTURE_BYTES
from batchproof.training.prove.wire import structure_fault

LARGE = MAX_STRUCTURE_BYTES + 1


def varint(number: int) -> bytes:
    """Return a number in groups of seven bits, the lowest first."""
    groups = [number >> shift & 127 for shift in range(0, max(number.bit_length(), 1), 7)]
    return bytes([*(group | 128 for group in groups[:-1]), groups[-1]])


def field(number: int, content: bytes) -> bytes:
    """Return a field that has a length."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def large(*before: bytes, after: bytes = b"") -> bytes:
    """Return a file whose one constant holds more raw data than the structure may have, other fields around it."""
    return b"".join(before) + field(7, field(5, field(9, bytes(LARGE)))) + after


def test_raw_data_is_no_structure() -> None:
    """Raw data of constants counts for nothing, however much it is; as much of any other field is refused."""
    assert structure_fault(large()) is None
    assert "something else than the raw data" in str(structure_fault(large(field(14, bytes(LARGE)))))


@pytest.mark.parametrize("other", [b"\x09" + bytes(8), b"\x0d" + bytes(4), b"\x08\xff\x01", field(2, b"name")])
def test_fields_of_every_kind_are_passed_over(other: bytes) -> None:
    """A field of 8 bytes, of 4 bytes, a number or a text before the graph does not hide what comes after it."""
    assert structure_fault(large(other)) is None
    assert structure_fault(large(other, field(14, bytes(LARGE)))) is not None


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (b"\x0b", "wire type 3"),
        (b"\x0c", "wire type 4"),
        (b"\x12\x7f", "a field ends behind its message"),
        (b"\x09\x00", "a field ends behind its message"),
        (b"\x0d\x00", "a field ends behind its message"),
        (b"\x08", "a number without an end"),
        (b"\x08\x80", "a number without an end"),
        (b"\x08" + b"\x80" * 11, "a number without an end"),
    ],
)
def test_bytes_that_are_no_fields_are_refused(end: bytes, words: str) -> None:
    """Groups, fields cut short and numbers without an end are refused where they stand, not passed over."""
    with pytest.raises(DecodeError, match=words):
        structure_fault(large(after=end))
