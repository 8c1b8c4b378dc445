"""Records: what a JSON object must hold, where it does not, and what it is written as again."""

import json
import pickle
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from batchproof.service.bundle.files.field_checks import (
    Invalid,
    above,
    at_least,
    at_most,
    below,
    characters,
    items,
    matching,
)
from batchproof.service.bundle.files.records import Record


class Part(Record):
    """A record in another one."""

    name: Annotated[str, characters(3, least=1)]
    count: int = 1


class Whole(Record):
    """One field of each kind."""

    part: Part
    kind: Literal["a", "b"] = "a"
    version: Literal[1, 2, 3] = 1
    only: Literal["x"] = "x"
    code: Annotated[str, matching(r"^[a-z]+$")] = "abc"
    few: Annotated[tuple[int, ...], items(1, 2)] = (1,)
    many: Annotated[tuple[int, ...], items(1)] = (1,)
    pair: tuple[float, float] | None = None
    label: bool | int | str = "x"
    share: Annotated[float, above(0), below(1)] = 0.5
    level: Annotated[float, at_least(0.25), at_most(4)] = 1.0
    flag: bool = False
    sizes: dict[str, float] | None = None
    rest: dict[str, Any] | None = None

    def agree(self) -> None:
        """Demand that a flag has a label."""
        if self.flag and self.label == "x":
            raise ValueError("a flag has a label")


CONTENT: dict[str, Any] = {"part": {"name": "a"}}


def whole(**changed: Any) -> Whole:
    return Whole.model_validate({**CONTENT, **changed}, strict=True)


@pytest.mark.parametrize(
    ("changed", "place", "what"),
    [
        ({"part": 3}, "part", "must be an object"),
        ({"part": {}}, "part.name", "is missing"),
        ({"part": {"name": 3}}, "part.name", "must be a string"),
        ({"part": {"name": ""}}, "part.name", "must have at least 1 character, not 0"),
        ({"part": {"name": "long"}}, "part.name", "must have at most 3 characters, not 4"),
        ({"part": {"name": "a", "count": 1.0}}, "part.count", "must be a whole number"),
        ({"part": {"name": "a", "count": True}}, "part.count", "must be a whole number"),
        ({"part": {"name": "a", "colour": 1}}, "part.colour", "is no known field"),
        ({"kind": "c"}, "kind", "must be 'a' or 'b'"),
        ({"kind": []}, "kind", "must be 'a' or 'b'"),
        ({"only": "y"}, "only", "must be 'x'"),
        ({"version": True}, "version", "must be 1, 2 or 3"),
        ({"code": "abc\n"}, "code", "must match ^[a-z]+$"),
        ({"few": 3}, "few", "must be an array"),
        ({"few": []}, "few", "must have at least 1 value, not 0"),
        ({"few": [1, 2, 3]}, "few", "must have at most 2 values, not 3"),
        ({"few": [1, "2"]}, "few.1", "must be a whole number"),
        ({"many": []}, "many", "must have at least 1 value, not 0"),
        ({"pair": [1]}, "pair", "must have 2 values, not 1"),
        ({"pair": [1, "2"]}, "pair.1", "must be a number"),
        ({"pair": [1, 2, 3]}, "pair", "must have 2 values, not 3"),
        ({"pair": [1, 10**400]}, "pair.1", "must be a finite number"),
        ({"label": None}, "label", "must be true or false, a whole number or a string"),
        ({"share": 0}, "share", "must be above 0"),
        ({"share": 1}, "share", "must be below 1"),
        ({"level": 0.125}, "level", "must be at least 0.25"),
        ({"level": 5}, "level", "must be at most 4"),
        ({"level": True}, "level", "must be a number"),
        ({"sizes": []}, "sizes", "must be an object"),
        ({"sizes": {"a": "1"}}, "sizes.a", "must be a number"),
        ({"sizes": {3: 1}}, "sizes.3", "must be a string"),
        ({"flag": True}, "", "a flag has a label"),
    ],
)
def test_a_fault_is_named_with_its_place(changed: dict[str, Any], place: str, what: str) -> None:
    """The first field that is wrong, in the order of the declaration, is said with what was expected there."""
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


def test_a_record_is_written_as_it_was_read() -> None:
    """A record's JSON, read again, is the same record."""
    found = whole(few=[1, 2], pair=[1, 2.5], rest={"b": [{"c": "é"}]})

    assert Whole.model_validate_json(found.model_dump_json(), strict=True) == found
    assert json.loads(found.model_dump_json()) == found.model_dump()
    assert "rest" not in found.model_dump(exclude={"rest"})
    assert pickle.loads(pickle.dumps(found)) == found


def test_callers_may_give_tuples_records_and_numbers_of_numpy() -> None:
    """What training has at hand needs no conversion, while JSON is read strictly."""
    part = Part(name="a", count=np.int64(3))  # type: ignore[arg-type]

    assert Whole(part=part, pair=(np.float32(1), 2), sizes={"a": np.float64(1)}).part is part  # type: ignore[arg-type]
    assert type(part.count) is int
    with pytest.raises(Invalid, match=r"^part: must be an object$"):
        whole(part=part)


def test_a_record_is_frozen_and_compared_by_its_fields() -> None:
    """No field of a record can be set or deleted; equal fields make equal records with equal hashes."""
    part = Part(name="a")

    with pytest.raises(AttributeError, match="frozen"):
        part.name = "b"  # type: ignore[misc]
    with pytest.raises(AttributeError, match="frozen"):
        del part.name
    other = part.model_copy(update={"name": "b"})
    assert (part == Part(name="a"), part == other, part == "a") == (True, False, False)
    assert {part: 1}[Part(name="a")] == 1
    assert repr(other) == "Part(name='b', count=1)"
