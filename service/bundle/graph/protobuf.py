"""The protobuf wire format, read message by message against a closed list of fields, without a protobuf library.

Reading takes time and memory in proportion to the file, and at most MAX_FIELDS fields are read from one file: lengths
are never negative, every step goes forward, and nothing is copied before its length is compared with the bytes that remain.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
FIXED_BYTES = {FIXED64: 8, FIXED32: 4}
MAX_VARINT_BITS = 63
MAX_FIELDS = 250_000  # of one file, over all messages: about a quarter of a second
MAX_TEXT_BYTES = 10_000  # of a name

Value: TypeAlias = int | memoryview


class Field(NamedTuple):
    """A field that a message may have."""

    name: str
    wire: int = LENGTH
    repeated: bool = False


class Budget:
    """Counts the fields read from one file, over all of its messages."""

    def __init__(self, fields: int = MAX_FIELDS) -> None:
        """Allow so many fields."""
        self._allowed = self._left = fields

    def spend(self) -> None:
        """Count one field; raises ValueError beyond the limit."""
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"it has more than {self._allowed} fields")


class Message:
    """The fields of one message, by name. Raises ValueError on everything that is not in its `schema`."""

    def __init__(self, raw: memoryview, kind: str, schema: Mapping[int, Field], budget: Budget | None = None) -> None:
        """Read `raw`, a message of `kind`; its fields count against `budget`, the file's."""
        self._budget = budget or Budget()
        self._values: dict[str, list[Value]] = {}
        for number, wire, value in fields(raw):
            self._budget.spend()
            field = schema.get(number)
            if field is None:
                raise ValueError(f"a {kind} has the field {number}, which a bundle may not use")
            if wire != field.wire:
                raise ValueError(f"the field {field.name} of a {kind} has wire type {wire} instead of {field.wire}")
            values = self._values.setdefault(field.name, [])
            if values and not field.repeated:
                raise ValueError(f"a {kind} has the field {field.name} twice")
            values.append(value)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def messages(self, name: str, kind: str, schema: Mapping[int, Field]) -> Iterator["Message"]:
        """Yield the messages, each of `kind`, that a field holds."""
        for raw in self.bytes(name):
            yield Message(raw, kind, schema, self._budget)

    def numbers(self, name: str) -> list[int]:
        """Return the values of a varint field."""
        return [value for value in self._values.get(name, ()) if isinstance(value, int)]

    def number(self, name: str) -> int:
        """Return the value of a varint field that is not repeated: 0 where it is not written."""
        return next(iter(self.numbers(name)), 0)

    def bytes(self, name: str) -> list[memoryview]:
        """Return the values of a field of bytes, text, messages or fixed-width numbers."""
        return [value for value in self._values.get(name, ()) if isinstance(value, memoryview)]

    def texts(self, name: str) -> tuple[str, ...]:
        """Return the values of a text field; raises ValueError where one is not UTF-8, or longer than a name may be."""
        values = self.bytes(name)
        if any(len(value) > MAX_TEXT_BYTES for value in values):
            raise ValueError(f"the field {name} is longer than {MAX_TEXT_BYTES} bytes")
        try:
            return tuple(str(value, "utf-8") for value in values)
        except UnicodeDecodeError as error:
            raise ValueError(f"the field {name} is not UTF-8") from error

    def text(self, name: str) -> str:
        """Return the value of a text field that is not repeated: empty where it is not written."""
        return next(iter(self.texts(name)), "")


def fields(raw: memoryview) -> Iterator[tuple[int, int, Value]]:
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
        if size < 0:
            raise ValueError("a field has a negative length")
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
