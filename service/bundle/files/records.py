"""Records of JSON: frozen values whose fields are declared once, by type, and checked when they are read or made.

An unknown, missing or mistyped field is an `Invalid` that names the place and what is expected there. Methods have the
names of pydantic's, whose import would be a quarter of the service's start.
"""

import json
from collections.abc import Collection
from typing import Any, ClassVar, Self, dataclass_transform

from batchproof.service.bundle.files.field_checks import Check, Invalid, check_of

ABSENT = object()  # in place of a value


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Record:
    """What a JSON object holds; a subclass declares its fields by annotations, with defaults where they may be absent."""

    model_fields: ClassVar[dict[str, Any]] = {}  # name -> its type
    _checks: ClassVar[
        dict[bool, list[tuple[str, Check, Any]]]
    ] = {}  # by strictness: each field and its default; made when first used

    def __init_subclass__(cls) -> None:
        """Add the declared fields to those of the bases."""
        cls.model_fields = {**cls.model_fields, **cls.__annotations__}
        cls._checks = {}

    def __init__(self, **values: Any) -> None:
        """Check `values` and keep them; raises Invalid. Lists may be given for tuples and whole numbers for others."""
        self._fill(values, is_strict=False)

    @classmethod
    def model_validate(cls, content: Any, *, strict: bool = False) -> Self:
        """Return the record that `content` holds, a record or a dictionary; raises Invalid.

        `strict` is for values that json.loads made.
        """
        if isinstance(content, cls) and not strict:
            return content
        if not isinstance(content, dict):
            raise Invalid("must be an object")
        record = cls.__new__(cls)
        cls._fill(record, content, is_strict=strict)
        return record

    @classmethod
    def model_validate_json(cls, raw: str | bytes, *, strict: bool = False) -> Self:
        """Return the record that a JSON text holds; raises Invalid, and ValueError for a text that is not JSON."""
        return cls.model_validate(json.loads(raw), strict=strict)

    def model_dump(self, *, exclude: Collection[str] = ()) -> dict[str, Any]:
        """Return the record's fields as values of JSON, in their order, without those to `exclude`."""
        return {name: _plain(value) for name, value in self.__dict__.items() if name not in exclude}

    def model_dump_json(self) -> str:
        """Return the record as a JSON text."""
        return json.dumps(self.model_dump(), ensure_ascii=False, separators=(",", ":"))

    def model_copy(self, *, update: dict[str, Any]) -> Self:
        """Return the record with other values in some fields, which are not checked."""
        copy = type(self).__new__(type(self))
        copy.__dict__.update({**self.__dict__, **update})
        return copy

    def agree(self) -> None:
        """Raise ValueError where fields that are right by themselves do not fit together."""

    def _fill(self, values: dict[str, Any], *, is_strict: bool) -> None:
        kept = self.__dict__
        for name, check, default in self._checks_of(is_strict=is_strict):
            if name in values:
                try:
                    kept[name] = check(values[name])
                except Invalid as fault:
                    raise fault.within(name) from None
            elif default is not ABSENT:
                kept[name] = default
            else:
                raise Invalid("is missing", (name,))
        if len(values) > len(kept) or not values.keys() <= kept.keys():
            unknown = next(str(name) for name in values if name not in kept)
            raise Invalid("is no known field", (unknown,))
        try:
            self.agree()
        except ValueError as error:
            raise Invalid(str(error)) from error

    @classmethod
    def _checks_of(cls, *, is_strict: bool) -> list[tuple[str, Check, Any]]:
        if is_strict not in cls._checks:
            cls._checks[is_strict] = [
                (name, check_of(hint, is_strict=is_strict), getattr(cls, name, ABSENT))
                for name, hint in cls.model_fields.items()
            ]
        return cls._checks[is_strict]

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse every change."""
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be set")

    def __delattr__(self, name: str) -> None:
        """Refuse every change."""
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        """Return whether both hold the same."""
        return type(other) is type(self) and other.__dict__ == self.__dict__

    def __hash__(self) -> int:
        """Return a hash of all fields; raises TypeError where one is a dictionary."""
        return hash((type(self), *self.__dict__.values()))

    def __repr__(self) -> str:
        """Return what would make the record."""
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.model_dump()
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
