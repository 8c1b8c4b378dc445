"""How much of a serialised file is structure, read without building it: a byte of it can become a hundred in memory.

The raw data of the stored constants is the one part whose memory is its own size. All else (nodes, names, numbers
that are stored one by one) is bounded before protobuf unpacks it.
"""

from collections.abc import Iterator

from google.protobuf.message import DecodeError

from batchproof.training.prove.limits import MAX_FIELDS, MAX_STRUCTURE_BYTES

GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9  # numbers of the fields in ModelProto, GraphProto and TensorProto
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
LONGEST_VARINT = 10  # bytes


def structure_fault(model: bytes) -> str | None:
    """Return why a file is not unpacked, or None if it may be. Raises DecodeError if the bytes are not messages."""
    if len(model) <= MAX_STRUCTURE_BYTES:
        return None
    rest = len(model)
    for count, (_, start, end) in enumerate(within(model, (GRAPH, INITIALIZER, RAW_DATA), 0, len(model))):
        rest -= end - start
        if count == MAX_FIELDS:
            return f"{len(model)} bytes of more than {MAX_FIELDS} fields"
    if rest <= MAX_STRUCTURE_BYTES:
        return None
    return f"more than {MAX_STRUCTURE_BYTES} bytes of it are something else than the raw data of constants"


def within(model: bytes, path: tuple[int, ...], start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Return the places of the fields that a path of field numbers leads to; the others on its way as empty places."""
    for number, first, last in fields(model, start, end):
        if number == path[0] and len(path) == 1:
            yield number, first, last
            continue
        yield number, first, first
        if number == path[0]:
            yield from within(model, path[1:], first, last)


def fields(model: bytes, place: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Return (number, start, end) of the fields of a message: the place of what follows the tag and the length."""
    while place < end:
        tag, place = varint(model, place, end)
        kind = tag & 7
        if kind == VARINT:
            start, (_, place) = place, varint(model, place, end)
        elif kind == BYTES:
            length, start = varint(model, place, end)
            place = start + length
        elif kind in (FIXED64, FIXED32):
            start, place = place, place + (8 if kind == FIXED64 else 4)
        else:
            raise DecodeError(f"wire type {kind} at byte {place}")
        if place > end:
            raise DecodeError(f"a field ends behind its message, at byte {end}")
        yield tag >> 3, start, place


def varint(model: bytes, place: int, end: int) -> tuple[int, int]:
    """Return a number and the place behind it."""
    value = 0
    for shift in range(LONGEST_VARINT):
        if place >= end:
            break
        byte = model[place]
        place += 1
        value |= (byte & 127) << 7 * shift
        if byte < 128:
            return value, place
    raise DecodeError(f"a number without an end at byte {place}")
