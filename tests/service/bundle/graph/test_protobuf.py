"""The reader of the wire format goes forward, counts what it reads, and bounds what it copies."""

import pytest

from batchproof.service.bundle.graph.fields import GRAPH, MODEL
from batchproof.service.bundle.graph.protobuf import MAX_FIELDS, MAX_TEXT_BYTES, Budget, Field, Message
from tests.fuzz_bundles import varint


def length(size: int) -> bytes:
    return varint(size & (1 << 64) - 1)


def model(raw: bytes) -> Message:
    return Message(memoryview(raw), "model", MODEL)


@pytest.mark.parametrize("size", [-1, -2, -11, -(1 << 31), -(1 << 63)])
@pytest.mark.parametrize("before", [b"", b"\x08\x08"])
def test_negative_length_is_refused(size: int, before: bytes) -> None:
    """A length below zero, which would go back in the file, is refused."""
    with pytest.raises(ValueError, match="a field has a negative length"):
        model(before + b"\x42" + length(size))


@pytest.mark.parametrize("size", [1, 1 << 31, 1 << 62])
def test_length_beyond_the_end_is_refused(size: int) -> None:
    """A length beyond the end of its message is refused before anything is copied."""
    with pytest.raises(ValueError, match="longer than the message that holds it"):
        model(b"\x42" + length(size))


def test_fields_are_counted_over_all_messages() -> None:
    """A file of millions of tiny fields is refused once too many are read, wherever in it they stand."""
    metadata = b"\x72\x00" * 3_000_000
    with pytest.raises(ValueError, match="more than 250000 fields"):
        model(metadata)
    names = b"\x0a\x00" * (MAX_FIELDS - 1)
    graph = b"\x0a" + length(len(names)) + names
    inner = next(model(b"\x3a" + length(len(graph)) + graph).messages("graph", "graph", GRAPH))
    schema = {1: Field("input", repeated=True)}
    with pytest.raises(ValueError, match="more than 250000 fields"):
        list(inner.messages("node", "node", schema))


def test_budget_ends() -> None:
    """As many fields as are allowed can be read, and not one more."""
    budget = Budget(3)
    for _ in range(3):
        budget.spend()
    with pytest.raises(ValueError, match="more than 3 fields"):
        budget.spend()


def test_names_are_bounded() -> None:
    """A name longer than any name is refused; one as long as allowed is read."""
    for size in (MAX_TEXT_BYTES, MAX_TEXT_BYTES + 1):
        message = model(b"\x12" + length(size) + b"n" * size)
        if size > MAX_TEXT_BYTES:
            with pytest.raises(ValueError, match="longer than 10000 bytes"):
                message.text("producer_name")
        else:
            assert len(message.text("producer_name")) == size
