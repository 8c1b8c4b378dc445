"""Checks of single values, made from the types that a record declares."""

import math
import re
from collections.abc import Callable, Collection, Iterable
from functools import partial
from itertools import repeat
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

Check = Callable[[Any], Any]  # a value -> what the record holds of it; raises Invalid


class Invalid(ValueError):  # noqa: N818 — says what is wrong
    """A value that does not fit its record: where, from the outside in, and what is expected there."""

    def __init__(self, what: str, place: tuple[str | int, ...] = ()) -> None:
        """Say `what` is wrong at `place`."""
        super().__init__(f"{'.'.join(map(str, place))}: {what}" if place else what)
        self.what = what
        self.place = place

    def within(self, part: str | int) -> "Invalid":
        """Return the same fault, seen from whatever holds the value at `part`."""
        return Invalid(self.what, (part, *self.place))


class Limit:
    """A condition of a field's values, and what is said of a value that does not meet it."""

    def __init__(self, holds: Callable[[Any], bool], says: Callable[[Any], str]) -> None:
        """Demand that `holds` is true of a value."""
        self.holds = holds
        self.says = says


def at_least(least: float) -> Limit:
    """Return the limit of numbers from `least` on."""
    return Limit(lambda value: value >= least, lambda _: f"must be at least {least:g}")


def at_most(most: float) -> Limit:
    """Return the limit of numbers up to `most`."""
    return Limit(lambda value: value <= most, lambda _: f"must be at most {most:g}")


def above(bound: float) -> Limit:
    """Return the limit of numbers above `bound`."""
    return Limit(lambda value: value > bound, lambda _: f"must be above {bound:g}")


def below(bound: float) -> Limit:
    """Return the limit of numbers below `bound`."""
    return Limit(lambda value: value < bound, lambda _: f"must be below {bound:g}")


def matching(pattern: str) -> Limit:
    """Return the limit of texts that match all of `pattern`."""
    whole = re.compile(pattern)
    return Limit(lambda value: whole.fullmatch(value) is not None, lambda _: f"must match {pattern}")


def characters(most: int, *, least: int = 0) -> Limit:
    """Return the limit of texts of `least` to `most` characters."""

    def says(value: str) -> str:
        bound = f"least {_counted(least, 'character')}" if len(value) < least else f"most {_counted(most, 'character')}"
        return f"must have at {bound}, not {len(value)}"

    return Limit(lambda value: least <= len(value) <= most, says)


def items(least: int, most: int | None = None) -> Limit:
    """Return the limit of lists of `least` to `most` items."""

    def says(value: Collection[Any]) -> str:
        bound = f"least {_counted(least, 'value')}" if len(value) < least else f"most {_counted(most or 0, 'value')}"
        return f"must have at {bound}, not {len(value)}"

    return Limit(lambda value: least <= len(value) and (most is None or len(value) <= most), says)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def check_of(hint: Any, *, is_strict: bool) -> Check:
    """Return what checks a value of the type `hint`: a record, a scalar, or those in tuples, dictionaries and unions.

    A strict check is for values that json.loads made.
    """
    inside = partial(check_of, is_strict=is_strict)
    kind, inner = get_origin(hint), get_args(hint)
    if kind is Annotated:
        check = _limited(inside(inner[0]), inner[1:])
    elif kind in (Union, UnionType):
        check = _one_of(inner, inside)
    elif kind is Literal:
        check = _listed(inner)
    elif kind is tuple:
        check = _all(inside(inner[0])) if inner[1:] == (...,) else _each([inside(one) for one in inner])
    elif kind is dict:
        check = _dictionary(inside(inner[1]))
    elif hasattr(hint, "model_validate"):
        check = partial(hint.model_validate, strict=is_strict)
    else:
        check = SCALARS[hint] if is_strict else LENIENT.get(hint, SCALARS[hint])
    return check


def _limited(check: Check, limits: tuple[Limit, ...]) -> Check:
    def checked(value: Any) -> Any:
        found = check(value)
        for limit in limits:
            if not limit.holds(found):
                raise Invalid(limit.says(found))
        return found

    return checked


def _one_of(hints: tuple[Any, ...], inside: Callable[[Any], Check]) -> Check:
    """Return the check of None and of one other type, or of several scalars, each of which takes only its own type."""
    others = [hint for hint in hints if hint is not NoneType]
    check = inside(others[0]) if len(others) == 1 else _scalar(others)
    if len(others) == len(hints):
        return check
    return lambda value: None if value is None else check(value)


def _scalar(kinds: list[type]) -> Check:
    checks = {kind: SCALARS[kind] for kind in kinds}
    *first, last = [NAMES[kind] for kind in kinds]
    expected = f"must be {', '.join(first)} or {last}"

    def checked(value: Any) -> Any:
        kind = type(value) if type(value) in checks else next((one for one in kinds if isinstance(value, one)), None)
        if kind is None:
            raise Invalid(expected)
        return checks[kind](value)

    return checked


def _listed(values: tuple[Any, ...]) -> Check:
    *first, last = map(repr, values)
    expected = f"must be {', '.join(first)} or {last}" if first else f"must be {last}"
    types = {type(value) for value in values}

    def checked(value: Any) -> Any:
        if type(value) not in types or value not in values:  # True is 1, but no whole number
            raise Invalid(expected)
        return value

    return checked


def _all(check: Check) -> Check:
    """Return the check of a list whose items are all of one type."""

    def checked(value: Any) -> tuple[Any, ...]:
        given = _list(value)
        return _items(repeat(check, len(given)), given)

    return checked


def _each(checks: list[Check]) -> Check:
    """Return the check of a list with one item for each of `checks`."""

    def checked(value: Any) -> tuple[Any, ...]:
        given = _list(value)
        if len(given) != len(checks):
            raise Invalid(f"must have {len(checks)} values, not {len(given)}")
        return _items(checks, given)

    return checked


def _items(checks: Iterable[Check], given: Collection[Any]) -> tuple[Any, ...]:
    found = []
    for place, (check, one) in enumerate(zip(checks, given, strict=True)):
        try:
            found.append(check(one))
        except Invalid as fault:
            raise fault.within(place) from None
    return tuple(found)


def _list(value: Any) -> list[Any] | tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise Invalid("must be an array")
    return value


def _dictionary(check: Check) -> Check:
    def checked(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise Invalid("must be an object")
        found = {}
        for key, one in value.items():
            try:
                found[_text(key)] = check(one)
            except Invalid as fault:
                raise fault.within(str(key)) from None
        return found

    return checked


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Invalid("must be a string")
    return str(value)


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Invalid("must be true or false")
    return value


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise Invalid("must be a whole number")
    return int(value)


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Invalid("must be a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise Invalid("must be a finite number")
    return number


NAMES = {bool: "true or false", float: "a number", int: "a whole number", str: "a string"}
SCALARS: dict[Any, Check] = {
    Any: lambda value: value,
    bool: _truth,
    float: _finite,
    int: _whole,
    str: _text,
}
LENIENT: dict[Any, Check] = {  # NumPy's numbers too
    float: lambda value: _finite(float(value) if hasattr(value, "__float__") and hasattr(value, "dtype") else value),
    int: lambda value: _whole(int(value) if hasattr(value, "__index__") and hasattr(value, "dtype") else value),
}
