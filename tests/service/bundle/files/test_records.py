"""Records: what a JSON object must hold, where it does not, and what it is written as again."""

import json
import math
import pickle
import sys
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta

from batchproof.service.bundle.files.records import Finite, Invalid, Record


class Part(Record, frozen=True, kw_only=True):
    """A record in another one."""

    name: Annotated[str, Meta(min_length=1, max_length=3)]
    count: int = 1


class Whole(Record, frozen=True, kw_only=True):
    """One field of each kind."""

    part: Part
    kind: Literal["a", "b"] = "a"
    version: Literal[1, 2, 3] = 1
    only: Literal["x"] = "x"
    code: Annotated[str, Meta(pattern=r"^[a-z]+\Z")] = "abc"
    few: Annotated[tuple[int, ...], Meta(min_length=1, max_length=2)] = (1,)
    many: Annotated[tuple[int, ...], Meta(min_length=1)] = (1,)
    pair: tuple[Finite, Finite] | None = None
    label: bool | int | str = "x"
    share: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    level: Annotated[float, Meta(ge=0.25, le=4)] = 1.0
    flag: bool = False
    sizes: dict[str, float] | None = None
    parts: dict[str, tuple[Part, ...]] | None = None
    rest: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """Demand that a flag has a label."""
        if self.flag and self.label == "x":
            raise ValueError("a flag has a label")


CONTENT: dict[str, Any] = {"part": {"name": "a"}}


def whole(**changed: Any) -> Whole:
    return Whole.model_validate({**CONTENT, **changed})


@pytest.mark.parametrize(
    ("changed", "place", "what"),
    [
        ({"part": 3}, "part", "must be an object"),
        ({"part": {}}, "part.name", "is missing"),
        ({"part": {"name": 3}}, "part.name", "must be a string"),
        ({"part": {"name": ""}}, "part.name", "must be a string of length >= 1"),
        ({"part": {"name": "long"}}, "part.name", "must be a string of length <= 3"),
        ({"part": {"name": "a", "count": 1.0}}, "part.count", "must be a whole number"),
        ({"part": {"name": "a", "count": True}}, "part.count", "must be a whole number"),
        ({"part": {"name": "a", "colour": 1}}, "part.colour", "is no known field"),
        ({"kind": "c"}, "kind", "must be 'a' or 'b'"),
        ({"kind": []}, "kind", "must be 'a' or 'b'"),
        ({"only": "y"}, "only", "must be 'x'"),
        ({"version": True}, "version", "must be 1, 2 or 3"),
        ({"code": "abc\n"}, "code", r"must be a string matching regex '^[a-z]+\\Z'"),
        ({"few": 3}, "few", "must be an array"),
        ({"few": []}, "few", "must be an array of length >= 1"),
        ({"few": [1, 2, 3]}, "few", "must be an array of length <= 2"),
        ({"few": [1, "2"]}, "few.1", "must be a whole number"),
        ({"many": []}, "many", "must be an array of length >= 1"),
        ({"pair": [1]}, "pair", "must be an array of length 2"),
        ({"pair": [1, "2"]}, "pair.1", "must be a number"),
        ({"pair": [1, 2, 3]}, "pair", "must be an array of length 2"),
        ({"pair": [1, math.inf]}, "pair.1", f"must be a number <= {sys.float_info.max}"),
        ({"pair": [math.nan, 1]}, "pair.0", f"must be a number >= -{sys.float_info.max}"),
        ({"label": None}, "label", "must be true or false, a whole number or a string"),
        ({"share": 0}, "share", "must be a number > 0.0"),
        ({"share": 1}, "share", "must be a number < 1.0"),
        ({"level": 0.125}, "level", "must be a number >= 0.25"),
        ({"level": 5}, "level", "must be a number <= 4.0"),
        ({"level": True}, "level", "must be a number"),
        ({"sizes": []}, "sizes", "must be an object or null"),
        ({"sizes": {"a": "1"}}, "sizes.a", "must be a number"),
        ({"sizes": {3: 1}}, "sizes", "must be a string"),  # no key of a JSON object
        ({"sizes": {"a": 1, "b.c": None}}, "sizes.b.c", "must be a number"),
        ({"parts": {"a": [], "b": [{"name": "a"}, {"name": 3}], "c": 3}}, "parts.b.1.name", "must be a string"),
        ({"parts": {"a": [{}]}}, "parts.a.0.name", "is missing"),
        ({"a` - at `$.part": 1}, "a` - at `$.part", "is no known field"),
        ({"part": {"name": "a", "b` - at `$.kind": 1}}, "part.b` - at `$.kind", "is no known field"),
        ({"kind": "c` - at `$.part"}, "kind", "must be 'a' or 'b'"),
        ({"kind": "\ud800"}, "", r"holds '\ud800', which is not valid Unicode"),
        ({"\ud800": 1}, "", r"holds '\ud800', which is not valid Unicode"),
        ({"flag": True}, "", "a flag has a label"),
    ],
)
def test_a_fault_is_named_with_its_place(changed: dict[str, Any], place: str, what: str) -> None:
    """The first value that is wrong, in the order of the document, is said with what was expected there.

    No name or text of the document changes what is said of another place.
    """
    with pytest.raises(Invalid) as raised:
        whole(**changed)

    assert (".".join(map(str, raised.value.place)), raised.value.what) == (place, what)
    assert str(raised.value) == (f"{place}: {what}" if place else what)


def test_each_kind_of_value_is_kept() -> None:
    """Lists become tuples, whole numbers become floats where those are declared, and labels keep their own type."""
    found = whole(few=[1, 2], many=[1] * 9, pair=[1, 2.5], sizes={"a": 1}, rest={"b": [1]}, version=3, label=True)

    assert (found.part, found.few, found.pair) == (Part(name="a"), (1, 2), (1.0, 2.5))
    assert repr(found.sizes) == "{'a': 1.0}"
    assert found.label is True
    assert [whole(label=label).label for label in (3, "3")] == [3, "3"]
    assert whole(pair=None).pair is None
    assert [whole(part={"name": "a", "count": count}).part.count for count in (2**70, -(2**63))] == [2**70, -(2**63)]


def test_a_record_is_written_as_it_was_read() -> None:
    """A record's JSON, read again, is the same record."""
    found = whole(few=[1, 2], pair=[1, 2.5], rest={"b": [{"c": "é"}]})

    assert Whole.model_validate(json.loads(json.dumps(found.model_dump()))) == found
    assert "rest" not in found.model_dump(exclude={"rest"})
    assert pickle.loads(pickle.dumps(found)) == found


def test_callers_may_give_tuples_and_records() -> None:
    """What training has at hand needs no conversion; fields must agree however a record was made."""
    part = Part(name="a", count=3)
    found = Whole.model_validate({"part": part, "pair": (1, 2)})

    assert found == Whole(part=part, pair=(1.0, 2.0))
    assert found.part is part
    assert Whole.model_validate(found) is found
    with pytest.raises(ValueError, match="a flag has a label"):
        Whole(part=part, flag=True)


def test_a_record_is_frozen_and_compared_by_its_fields() -> None:
    """No field of a record can be set or deleted; equal fields make equal records with equal hashes."""
    part = Part(name="a")

    with pytest.raises(AttributeError, match="immutable"):
        part.name = "b"  # type: ignore[misc]
    with pytest.raises(AttributeError, match="immutable"):
        del part.name
    other = part.model_copy(update={"name": "b"})
    assert Whole(part=part).model_copy(update={"flag": True}).flag  # a copy is not checked
    assert (part == Part(name="a"), part == other, part == "a") == (True, False, False)
    assert {part: 1}[Part(name="a")] == 1
    assert repr(other) == "Part(name='b', count=1)"
