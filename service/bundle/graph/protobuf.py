"""The protobuf wire format, read message by message against a closed list of fields, without a protobuf library."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
FIXED_BYTES = {FIXED64: 8, FIXED32: 4}
MAX_VARINT_BITS = 63

Value: TypeAlias = int | memoryview


class Field(NamedTuple):
    """A field that a message may have."""

    name: str
    wire: int = LENGTH
    repeated: bool = False


class Message:
    """The fields of one message, by name. Raises ValueError on everything that is not in its `schema`."""

    def __init__(self, raw: memoryview, kind: str, schema: Mapping[int, Field]) -> None:
        """Read `raw`, a message of `kind`."""
        self._values: dict[str, list[Value]] = {}
        for number, wire, value in _fields(raw):
            field = schema.get(number)
            if field is None:
                raise ValueError(f"a {kind} has the field {number}, which a bundle may not use")
            if wire != field.wire:
                raise ValueError(f"the field {field.name} of a {kind} has wire type {wire} instead of {field.wire}")
            values = self._values.setdefault(field.name, [])
            if values and not field.repeated:
                raise ValueError(f"a {kind} has the field {field.name} twice")
            values.append(value)

    def numbers(self, name: str) -> list[int]:
        """Return the values of a varint field."""
        return [value for value in self._values.get(name, ()) if isinstance(value, int)]

    def number(self, name: str) -> int:
        """Return the value of a varint field that is not repeated: 0 where it is not written."""
        return next(iter(self.numbers(name)), 0)

    def bytes(self, name: str) -> list[memoryview]:
        """Return the values of a field of bytes, text, messages or fixed-width numbers."""
        return [value for value in self._values.get(name, ()) if isinstance(value, memoryview)]

    def text(self, name: str) -> str:
        """Return the value of a text field: empty where it is not written."""
        try:
            return str(next(iter(self.bytes(name)), b""), "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"the field {name} is not UTF-8") from error


def _fields(raw: memoryview) -> Iterator[tuple[int, int, Value]]:
    """Yield (field number, wire type, value) in the order written."""
    place = 0
    while place < len(raw):
        key, place = _varint(raw, place)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, place = _varint(raw, place)
            yield number, wire, value
            continue
        if wire == LENGTH:
            size, place = _varint(raw, place)
        elif wire in FIXED_BYTES:
            size = FIXED_BYTES[wire]
        else:
            raise ValueError(f"wire type {wire} does not exist")
        if size > len(raw) - place:
            raise ValueError("a field is longer than the message that holds it")
        yield number, wire, raw[place : place + size]
        place += size


def _varint(raw: memoryview, place: int) -> tuple[int, int]:
    """Return (number, place after it). Negative numbers, ten bytes long, come out as they are meant: 64-bit signed."""
    number = shift = 0
    while True:
        if place >= len(raw) or shift > MAX_VARINT_BITS:
            raise ValueError("a number is cut off or too long")
        byte = raw[place]
        number |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            break
    number &= (1 << 64) - 1
    return (number - (1 << 64) if number >> 63 else number), place
