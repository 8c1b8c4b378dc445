"""What the settings say of how one column's texts are read."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from shlex import quote
from typing import Any

import numpy as np

from batchproof.service.bundle.files.records import Invalid
from batchproof.service.bundle.signature import Feature, Kind, TextRule, ValueType
from batchproof.service.features.texts.date_formats import DateFormatError, date_parser
from batchproof.training.settings import SettingError, Settings, check_columns

COLUMN_FLAGS = (  # each takes names of columns
    *("numeric", "categorical", "date", "text", "drop", "keep"),
    *("increasing", "decreasing"),
)
RESTRICTED = ("missing", "date_format")  # each takes VALUE for all columns, or COLUMN=VALUE


@dataclass(frozen=True)
class TextOptions:
    """How the texts of one column are read; what is None is found from the texts."""

    is_cells: bool = False  # of a text table: usual spellings are missing, and numbers are recognised
    as_text: bool = False
    missing: tuple[str, ...] = ()
    strip: bool = False
    decimal: str | None = None
    thousands: str | None = None
    date_format: str | None = None

    @property
    def rule(self) -> TextRule:
        """The rule that holds before anything is found."""
        return TextRule(missing=self.missing, usual_missing=not self.as_text, strip=self.strip)


@dataclass(frozen=True)
class Texts:
    """The distinct texts of a column that are not missing."""

    name: str
    levels: Sequence[str]  # as they are in the table
    rows: Sequence[int]  # rows that hold each
    options: TextOptions

    def feature(self, kind: Kind, value_type: ValueType, rule: TextRule | None) -> Feature:
        """Return a feature of this kind, to read the texts as scoring will."""
        categories = () if kind == "categorical" else None
        return Feature(
            name=self.name, kind=kind, value_type=value_type, missing=True, text_rule=rule, categories=categories
        )

    def share(self, is_read: Sequence[bool]) -> float:
        """Return the share of the rows with a text that is read."""
        total = sum(self.rows)
        return sum(rows for rows, good in zip(self.rows, is_read, strict=True) if good) / total if total else 0.0


@dataclass(frozen=True)
class Reading:
    """What a column of texts was found to be."""

    kind: Kind
    value_type: ValueType
    rule: TextRule | None = None
    note: str = ""
    warnings: tuple[str, ...] = ()
    values: np.ndarray | None = None  # [texts] float64 of numbers and dates, NaN = missing


def options_of(name: str, settings: Settings, *, is_cells: bool) -> TextOptions:
    """Return what the settings say of the column `name`."""
    formats = _for_column(name, settings.date_format)
    return TextOptions(
        is_cells=is_cells,
        as_text=name in settings.text,
        missing=_for_column(name, settings.missing),
        strip=settings.strip,
        decimal=settings.decimal,
        thousands=settings.thousands,
        date_format=formats[-1] if formats else None,
    )


def resolve(settings: Settings, names: list[str]) -> Settings:
    """Return the settings with the columns of every flag one by one, so that `--drop a,b` means both.

    A name that holds a comma itself stays whole. Raises SettingError for a column under two flags, for a date format
    that cannot be used, and for a text that is longer than a bundle may have it.
    """
    changes: dict[str, Any] = {flag: _columns(getattr(settings, flag), names) for flag in COLUMN_FLAGS}
    changes |= {flag: _restrictions(getattr(settings, flag), names) for flag in RESTRICTED}
    resolved = replace(settings, **changes)
    check_columns(resolved, targets_of(settings.target, names))
    for entry in resolved.date_format:
        date_format = entry.split("\0")[-1]
        try:
            date_parser(date_format)
        except DateFormatError as error:
            raise SettingError(f"--date-format: {error}.") from error
        _check_rule("--date-format", date_format=date_format)
    for entry in resolved.missing:
        _check_rule("--missing", missing=[entry.split("\0")[-1]])
    return resolved


def _check_rule(flag: str, **fields: Any) -> None:
    try:
        TextRule.model_validate(fields)
    except Invalid as error:
        raise SettingError(f"{flag}: it {error.what}.") from error


def targets_of(text: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that --target names, separated by commas; a name that holds a comma itself stays whole.

    Raises SettingError for a column that is named twice.
    """
    found: list[str] = []
    parts = [text] if text in names else text.split(",")
    while parts:
        joined = (",".join(parts[:end]).strip() for end in range(len(parts), 0, -1))
        ends = range(len(parts), 0, -1)
        name, end = next(
            ((name, end) for name, end in zip(joined, ends, strict=True) if name in names), (parts[0].strip(), 1)
        )
        found.append(name)
        parts = parts[end:]
    twice = next((name for name in found if found.count(name) > 1), None)
    if twice is not None:
        raise SettingError(f"--target names the column {twice!r} twice: name each target once.")
    return tuple(name for name in found if name) or (text,)


def flag_text(flag: str, name: str) -> str:
    """Return a flag with a column's name as a shell reads it."""
    return f"--{flag} {quote(name)}"


def _columns(given: tuple[str, ...], names: list[str]) -> tuple[str, ...]:
    parts = [[text] if text in names else [part.strip() for part in text.split(",")] for text in given]
    return tuple(dict.fromkeys(name for part in parts for name in part if name))


def _restrictions(given: tuple[str, ...], names: list[str]) -> tuple[str, ...]:
    """Mark the entries that hold for one column by a null character for the equals sign; others stay as they are."""
    return tuple(
        text.replace("=", "\0", 1) if text.partition("=")[0] in names and "=" in text else text for text in given
    )


def _for_column(name: str, entries: tuple[str, ...]) -> tuple[str, ...]:
    """Return the values that hold for a column, those for all columns first."""
    split = [entry.partition("\0") for entry in entries]
    general = [column for column, mark, _ in split if not mark]
    return tuple(dict.fromkeys([*general, *(value for column, mark, value in split if mark and column == name)]))


def rule_of(texts: Texts, **update: Any) -> TextRule | None:
    """Return the rule of the options with what was found; None for cells that are read as usual."""
    rule = texts.options.rule.model_copy(update=update)
    return None if texts.options.is_cells and rule == TextRule() else rule
