"""What a setting is declared by, and how a value of it is read from a flag, the environment, a file or a call.

A text means what it means in the environment: "8000" is a number, "yes" a truth value. Importing pydantic for this took
a quarter of the service's start.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, Self, dataclass_transform, get_args, get_origin

WHOLE = re.compile(r"[+-]?[0-9]+(_[0-9]+)*(\.0+)?")
TRUTHS = {
    **dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True),
    **dict.fromkeys(("0", "false", "f", "no", "n", "off"), False),
}


class UnfitError(ValueError):
    """A value of the wrong type, or outside its bounds."""


class WrongSettingError(ValueError):
    """A setting, by name, whose value is wrong; the cause says why."""

    def __init__(self, name: str, why: ValueError) -> None:
        """Name the setting."""
        super().__init__(f"{name}: {why}")
        self.name = name
        self.why = why


class Setting:
    """One setting: its type, default, unit, bounds and meaning."""

    def __init__(
        self,
        default: Any,
        *,
        description: str,
        unit: str = "",
        ge: float | None = None,
        gt: float | None = None,
        le: float | None = None,
        read: Callable[[Any], Any] | None = None,
        check: Callable[[Any], Any] | None = None,
    ) -> None:
        """Declare a setting; `read` makes its value of what is written, `check` raises ValueError for a wrong one."""
        self.annotation: Any = type(default)
        self.default = default
        self.description = description
        self.unit = unit
        self.ge, self.gt, self.le = ge, gt, le
        self.read, self.check = read, check

    def value_of(self, given: Any) -> Any:
        """Return the setting's value where `given` is written; raises ValueError, UnfitError where the type says why."""
        value = typed(given if self.read is None else self.read(given), self.annotation)
        self._bound(value)
        if self.check is not None:
            self.check(value)
        return value

    def _bound(self, value: Any) -> None:
        # Each as the negation of what is right: NaN is beyond all bounds.
        if (
            (self.ge is not None and not value >= self.ge)
            or (self.gt is not None and not value > self.gt)
            or (self.le is not None and not value <= self.le)
        ):
            raise UnfitError("out of bounds")


def matching(pattern: str) -> Callable[[str], None]:
    """Return the check of texts that match all of `pattern`."""
    whole = re.compile(pattern)

    def check(value: str) -> None:
        if whole.fullmatch(value) is None:
            raise UnfitError(f"it must match {pattern}")

    return check


def not_empty(value: str) -> None:
    """Raise UnfitError for an empty text."""
    if not value:
        raise UnfitError("it must not be empty")


def setting(default: Any, **declared: Any) -> Any:
    """Return a declaration for the class body of a part of the settings; the options are those of `Setting`."""
    return Setting(default, **declared)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(setting,))
class SettingsPart:
    """A part of all settings: a class whose annotated attributes are made by `setting`."""

    model_fields: ClassVar[dict[str, Setting]] = {}

    def __init_subclass__(cls) -> None:
        """Collect the declared settings, those of the last base first."""
        for name, annotation in cls.__annotations__.items():
            vars(cls)[name].annotation = annotation
        parts = [vars(base) for base in reversed(cls.__mro__)]
        cls.model_fields = {name: one for part in parts for name, one in part.items() if isinstance(one, Setting)}

    def __init__(self, **values: Any) -> None:
        """Check `values`, and take defaults for the others; raises WrongSettingError."""
        for name, declared in self.model_fields.items():
            try:
                self.__dict__[name] = declared.value_of(values[name]) if name in values else declared.default
            except ValueError as error:
                raise WrongSettingError(name, error) from error
        for name in values.keys() - self.model_fields.keys():
            raise WrongSettingError(name, UnfitError("no such setting"))

    def model_copy(self, *, update: Mapping[str, Any]) -> Self:
        """Return the settings with others in place of some, which are not checked."""
        copy = type(self).__new__(type(self))
        copy.__dict__.update({**self.__dict__, **update})
        return copy

    def __eq__(self, other: object) -> bool:
        """Return whether both have the same values."""
        return type(other) is type(self) and other.__dict__ == self.__dict__

    __hash__ = None  # type: ignore[assignment]  # dictionaries are among the values

    def __repr__(self) -> str:
        """Return what would make the settings."""
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse every change."""
        raise AttributeError(f"settings are frozen: {name} cannot be set")


def typed(value: Any, kind: Any) -> Any:
    """Return `value` as one of the type `kind`; raises UnfitError."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return _listed(value, inner)
    if origin is tuple:
        if not isinstance(value, list | tuple | set | frozenset):
            raise UnfitError("it must be a list")
        return tuple(typed(one, inner[0]) for one in value)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise UnfitError("it must be a dictionary")
        return {typed(key, str): _any_of(one, get_args(inner[1]) or (inner[1],)) for key, one in value.items()}
    return READERS[kind](value) if kind in READERS else value


def _listed(value: Any, choices: tuple[Any, ...]) -> Any:
    if not isinstance(value, str) or value not in choices:
        *first, last = map(repr, choices)
        raise UnfitError(f"it must be {', '.join(first)} or {last}")
    return value


def _any_of(value: Any, kinds: tuple[Any, ...]) -> Any:
    """Return a value of one of the types as it is, another one as the first that takes it."""
    if type(value) in kinds:
        return value
    for kind in kinds[:-1]:
        try:
            return typed(value, kind)
        except UnfitError:
            continue
    return typed(value, kinds[-1])


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise UnfitError("it must be a text")
    return value


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    known = value.lower() if isinstance(value, str) else f"{value:g}" if isinstance(value, int | float) else ""
    if known not in TRUTHS:
        raise UnfitError("it must be true or false")
    return TRUTHS[known]


def _whole(value: Any) -> int:
    if isinstance(value, str) and WHOLE.fullmatch(value.strip()):
        return int(value.strip().partition(".")[0])
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    raise UnfitError("it must be a whole number")


def _number(value: Any) -> float:
    if isinstance(value, str) and value.isascii():
        try:
            return float(value)
        except ValueError:
            raise UnfitError("it must be a number") from None
    if not isinstance(value, int | float):
        raise UnfitError("it must be a number")
    return float(value)


READERS: dict[Any, Callable[[Any], Any]] = {bool: _truth, float: _number, int: _whole, str: _text}
