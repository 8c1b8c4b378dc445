"""How a setting is read: what a text, a number and a list mean, and what is refused."""

import math
from typing import Any, Literal

import pytest

from batchproof.service.configuration.setting_fields import (
    SettingsPart,
    UnfitError,
    WrongSettingError,
    matching,
    not_empty,
    setting,
)


class Part(SettingsPart):
    """One setting of each kind."""

    count: int = setting(1, ge=0, le=10, description="a number", unit="rows")
    share: float = setting(0.5, gt=0, le=1, description="a share")
    flag: bool = setting(False, description="a switch")
    kind: Literal["a", "b"] = setting("a", description="one of two")
    name: str = setting("x", check=not_empty, description="a name")
    path: str = setting("", check=matching(r"^(/[a-z]+)*$"), description="a path")
    names: tuple[str, ...] = setting((), description="names")
    versions: dict[str, int | str] = setting({}, description="versions")


class Whole(Part):
    """The same, and one more."""

    more: int = setting(2, description="more")


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        *(("count", given, 5) for given in (5, 5.0, "5", " 5 ", "+5", "5.0", "0_5", "05")),
        ("count", True, 1),
        *(("share", given, 0.5) for given in (0.5, ".5", " 0.5", "5e-1")),
        ("share", 1, 1.0),
        *(("flag", given, True) for given in (True, 1, 1.0, "1", "true", "TRUE", "t", "yes", "y", "on")),
        *(("flag", given, False) for given in (False, 0, "0", "false", "f", "no", "n", "Off")),
        ("kind", "b", "b"),
        ("path", "/ml/a", "/ml/a"),
        ("names", ["a", "b"], ("a", "b")),
        ("versions", {"a": 3, "b": "3+4", "c": 1.0, "d": True}, {"a": 3, "b": "3+4", "c": 1, "d": 1}),
    ],
)
def test_a_value_is_read_as_it_is_written(name: str, given: Any, value: Any) -> None:
    """A text means what it means in the environment; a value of the right type is taken as it is."""
    found = getattr(Whole(**{name: given}), name)

    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "given", "why"),
    [
        *(("count", given, "a whole number") for given in (1.5, "1.5", "5.", "", "x", "1__0", None, [], math.inf, "٣")),
        *(("count", given, "bounds") for given in (-1, 11, "11")),
        *(("share", given, "bounds") for given in (0, 1.5, "nan", "inf", math.nan)),
        *(("share", given, "a number") for given in ("", "x", None, [], "٣", "1,5")),
        *(("flag", given, "true or false") for given in ("perhaps", 2, None, "", " yes")),
        *(("kind", given, "'a' or 'b'") for given in ("c", 1, None, [])),
        ("name", "", "must not be empty"),
        ("name", 3, "a text"),
        ("path", "/ML", "must match"),
        ("path", "/ml\n", "must match"),
        ("names", 3, "a list"),
        ("names", "a", "a list"),
        ("names", [3], "a text"),
        ("versions", [], "a dictionary"),
        ("versions", {"a": 1.5}, "a text"),
        ("versions", {1: 1}, "a text"),
        ("colour", 1, "no such setting"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(name: str, given: Any, why: str) -> None:
    """A wrong type, a value out of bounds and an unknown name are refused, and say which setting it is."""
    with pytest.raises(WrongSettingError, match=why) as raised:
        Whole(**{name: given})

    assert raised.value.name == name
    assert isinstance(raised.value.why, UnfitError)


def test_parts_are_joined_in_order_and_frozen() -> None:
    """A class of settings has those of its bases first, a copy has other values, and nothing is set in place."""
    found = Whole()

    assert list(Whole.model_fields) == [*Part.model_fields, "more"]
    assert (found.count, found.more, found.model_copy(update={"more": 3}).more) == (1, 2, 3)
    assert (found == Whole(more=2), found == Whole(more=3), found == Part()) == (True, False, False)
    assert repr(found).endswith("versions={}, more=2)")
    with pytest.raises(AttributeError, match="frozen"):
        found.more = 3  # type: ignore[misc]
