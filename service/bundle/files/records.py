"""Records of JSON: frozen values whose fields are declared once, by type, and checked where a document is read.

They are msgspec's structs. What does not fit is an `Invalid` that names the place and what is expected there. Methods have
the names of pydantic's, whose import would be a quarter of the service's start.
"""

import re
import sys
from collections.abc import Collection
from copy import copy
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

import msgspec
from msgspec import Meta

GREATEST = sys.float_info.max
Finite = Annotated[float, Meta(ge=-GREATEST, le=GREATEST)]  # and so neither infinite nor NaN

# What msgspec says: `Expected X, got Y - at $.inputs[0].name`. A key of a dictionary stands there as [...].
FAULT = re.compile(r"(.*?)(?: - at (?:`key` in )?`\$([^`]*)`)?", re.DOTALL)
STEP = re.compile(r"\.(\w+)|\[(\d+|\.\.\.)\]")
OF_FIELD = re.compile(r"Object (?:(contains unknown)|missing required) field `(.*)`", re.DOTALL)
TYPES = re.compile(r"`([a-z |]+)`")
NAMES = {
    "array": "an array",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "object": "an object",
    "str": "a string",
}


class Invalid(ValueError):  # noqa: N818 — says what is wrong
    """A value that does not fit its record: where, from the outside in, and what is expected there."""

    def __init__(self, what: str, place: tuple[str | int, ...] = ()) -> None:
        """Say `what` is wrong at `place`."""
        super().__init__(f"{'.'.join(map(str, place))}: {what}" if place else what)
        self.what = what
        self.place = place


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a JSON object holds; a subclass declares its fields, and in `__post_init__` how they fit together.

    The constructor takes values of the declared types as they are; only their agreement is checked.
    """

    @classmethod
    def model_validate(cls, content: Any) -> Self:
        """Return the record that `content` holds, a record or a dictionary of values of JSON; raises Invalid."""
        try:
            return msgspec.convert(content, cls)
        except msgspec.ValidationError as error:
            raise _invalid(str(error), cls, content) from error
        except UnicodeEncodeError as error:  # half of a surrogate pair, where a free text would not be refused
            raise Invalid(f"holds {error.object!r}, which is not valid Unicode") from error

    def model_dump(self, *, exclude: Collection[str] = ()) -> dict[str, Any]:
        """Return the record's fields as values of JSON, in their order, without those to `exclude`."""
        return {name: _plain(getattr(self, name)) for name in self.__struct_fields__ if name not in exclude}

    def model_copy(self, *, update: dict[str, Any]) -> Self:
        """Return the record with other values in some fields, which are not checked."""
        copied = copy(self)  # msgspec.structs.replace checks how fields agree, or not, by its version
        for name, value in update.items():
            msgspec.structs.force_setattr(copied, name, value)
        return copied


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.model_dump()
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _invalid(text: str, kind: Any, content: Any) -> Invalid:
    """Return the fault that msgspec found in `content` and describes in `text`."""
    own = OF_FIELD.fullmatch(text)
    if own and own[1] and own[2] in content:  # by the content: whoever wrote it may have written such a text as a name
        return Invalid("is no known field", (own[2],))
    said = FAULT.fullmatch(text)
    assert said is not None  # it matches every text
    what, path = said[1], said[2] or ""
    place, expected = _located(kind, content, path)
    of_field = OF_FIELD.fullmatch(what)
    if of_field:
        return Invalid("is no known field" if of_field[1] else "is missing", (*place, of_field[2]))
    if get_origin(expected) is Literal:
        *first, last = map(repr, get_args(expected))
        what = f"must be {', '.join(first)} or {last}" if first else f"must be {last}"
    elif what.startswith("Expected `"):
        what = TYPES.sub(_in_words, what.partition(", got ")[0]).replace("Expected", "must be", 1)
    return Invalid(what, place)


def _in_words(types: re.Match[str]) -> str:
    *first, last = (NAMES.get(name, name) for name in types[1].split(" | "))
    return f"{', '.join(first)} or {last}" if first else last


def _located(kind: Any, content: Any, path: str) -> tuple[tuple[str | int, ...], Any]:
    """Return the place that `path` names in `content`, and the type that is declared for it."""
    place: list[str | int] = []
    for field, item in STEP.findall(path):
        kind = _inside(kind, field or item)
        if item == "...":
            part = next(key for key, one in content.items() if not _fits(one, kind))
        else:
            part = field or int(item)
        place.append(part)
        content = content[part]
    return tuple(place), _bare(kind)


def _inside(kind: Any, part: str) -> Any:
    """Return the type of a field, of an item or of a dictionary's values."""
    bare = _bare(kind)
    if isinstance(bare, type) and issubclass(bare, Record):
        return next(field.type for field in msgspec.structs.fields(bare) if field.name == part)
    inner = get_args(bare)
    if get_origin(bare) is dict:
        return inner[1]
    return inner[0] if inner[1:] == (...,) else inner[int(part)]


def _bare(kind: Any) -> Any:
    """Return the type without its bounds, and without None beside it."""
    while get_origin(kind) in (Annotated, Union, UnionType):
        inner = get_args(kind)
        others = inner[:1] if get_origin(kind) is Annotated else [one for one in inner if one is not NoneType]
        if len(others) > 1:
            break
        kind = others[0]
    return kind


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True
