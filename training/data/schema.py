"""What each column becomes: a feature with the range or categories of its training rows, or a dropped column."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from batchproof.service.bundle.signature import Feature, Signature, class_text
from batchproof.service.features.arrays import Arrays
from batchproof.training.data.column import Column
from batchproof.training.data.tables.storage import MEMORY, Memory
from batchproof.training.data.tables.table_error import TableError
from batchproof.training.data.target import Target
from batchproof.training.settings import Settings

# A text column with this many distinct values per row identifies rows, and says nothing of others.
IDENTIFIER_SHARE = 0.9
IDENTIFIER_ROWS = 20  # below this, distinct values say little
ROW_NAMES = ("like an identifier", "like a row number")  # how the reason begins for a column that names rows
RARE = "no category occurs in"  # how the reason begins for a column whose categories are all rare
BLOCK_ROWS = 16_384  # rows of all columns that are put beside one another together
MOST_LINES = 60  # columns that are shown one by one
NAMED = 10  # columns of a kind that a summary names
NAMED_REASONS = 3  # dropped columns that a refusal explains


@dataclass(frozen=True)
class Dropped:
    """A column that is not used, with a short reason."""

    name: str
    reason: str


@dataclass(frozen=True)
class Schema:
    """The decision on every column."""

    signature: Signature
    dropped: tuple[Dropped, ...]

    def lines(self, columns: Iterable[Column]) -> list[str]:
        """Return a line for each column, for people."""
        if len(self.signature.inputs) + len(self.dropped) > MOST_LINES:
            return self._summary()
        by_name = {column.name: column for column in columns}
        width = max(len(feature.name) for feature in self.signature.inputs)
        lines = [f"  {f.name:<{width}}  {f.kind:<11}  {_detail(f, by_name[f.name])}" for f in self.signature.inputs]
        return lines + [f"  {drop.name:<{width}}  dropped      {drop.reason}" for drop in self.dropped]

    def _summary(self) -> list[str]:
        """Return one line a kind, and one for each reason to drop columns."""
        kinds: dict[str, list[str]] = {}
        for feature in self.signature.inputs:
            kinds.setdefault(feature.kind, []).append(feature.name)
        for drop in self.dropped:
            kinds.setdefault(f"dropped, {drop.reason.partition(':')[0].partition(' (')[0]}", []).append(drop.name)
        return [f"  {len(names)} {kind}: {_shown(names)}" for kind, names in kinds.items()]


def infer(
    columns: Iterable[Column],
    target: Target,
    train: np.ndarray,
    *,
    rare_rows: int,
    keep: Iterable[str],
    unusable: Iterable[Dropped] = (),
) -> Schema:
    """Decide on every column by its training rows, numbered `train`; whether it accepts null, by all rows.

    Raises TableError where no feature is left; its sentence names the `unusable` columns too.
    """
    features, dropped = [], []
    for column in columns:
        seen = column.take(train)
        reason = None if column.name in keep else useless(seen)
        feature = _feature(column, seen, rare_rows)
        if reason is None and feature.categories == ():
            reason = f"{RARE} {rare_rows} training rows, the most frequent one in {_most_rows(seen)}"
        if reason is None:
            features.append(feature)
        else:
            dropped.append(Dropped(column.name, f"{reason} ({column.note})" if column.note else reason))
    if not features:
        raise _nothing_left([*dropped, *unusable], columns)
    named = {"target": target.name} if len(target.names) == 1 else {"targets": target.names}
    return Schema(Signature(inputs=tuple(features), classes=target.classes, **named), tuple(dropped))


def _nothing_left(dropped: Iterable[Dropped], columns: Iterable[Column]) -> TableError:
    """Return the refusal of a table without a feature, with what is known of its first columns."""
    reasons = [f" Column {drop.name!r}: {drop.reason}." for drop in dropped]
    hints = [f" Column {column.name!r}: {warning}." for column in columns for warning in column.warnings]
    known = "".join(reasons[:NAMED_REASONS] + hints[:NAMED_REASONS])
    return TableError(f"every column was dropped: name one in --keep to keep it.{known}")


def constrained(schema: Schema, target: Target, settings: Settings) -> dict[str, int]:
    """Return the features with which predictions must not fall (1) or not rise (-1), by name.

    Raises TableError for a column that is no feature or has no order, and for a target of several classes.
    """
    kinds = {feature.name: feature.kind for feature in schema.signature.inputs}
    reasons = {drop.name: drop.reason for drop in schema.dropped}
    directions: dict[str, int] = {}
    for flag, direction in (("increasing", 1), ("decreasing", -1)):
        for name in getattr(settings, flag):
            if target.task == "multiclass":
                raise TableError(
                    f"--{flag} is for a number or two classes, but the target {target.name!r} has "
                    f"{len(target.classes or ())} classes, which have no order: leave it out."
                )
            if name not in kinds:
                why = (
                    f"left out ({reasons[name]}): --keep keeps it"
                    if name in reasons
                    else "no feature: leave it out there"
                )
                raise TableError(f"--{flag} names {name!r}, which is {why}.")
            if kinds[name] == "categorical":
                raise TableError(f"--{flag} names {name!r}, which is categorical: only numbers and dates grow.")
            directions[name] = direction
    return directions


def _shown(names: list[str]) -> str:
    more = f", and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(map(quoted, names[:NAMED])) + more


def useless(column: Column) -> str | None:
    """Return why the column of training rows cannot help, or None."""
    present = column.values[~column.is_missing]
    if not len(present):
        return "no value in the training rows"
    distinct = len(np.unique(present))
    if distinct == 1 and len(present) == len(column.values):
        return "constant"
    if len(present) < IDENTIFIER_ROWS:
        return None
    if column.kind == "categorical" and column.value_type == "string" and distinct >= IDENTIFIER_SHARE * len(present):
        return f"like an identifier: {distinct} distinct values in {len(present)} rows"
    if column.value_type == "integer" and column.kind == "numeric" and _counts_rows(present):
        return "like a row number: every value once, in order"
    return None


def encode(signature: Signature, columns: Iterable[Column], rows: np.ndarray, storage: Memory = MEMORY) -> Arrays:
    """Return the graph's inputs for the rows numbered `rows`, as the service encodes the same values."""
    by_name = {column.name: column for column in columns}
    numbers = [(by_name[feature.name].values, None) for feature in signature.numeric]
    codes = [
        (by_name[feature.name].values, _codes(feature, by_name[feature.name])) for feature in signature.categorical
    ]
    return Arrays(_beside(numbers, rows, np.float64, storage), _beside(codes, rows, np.int64, storage))


def _beside(
    columns: Sequence[tuple[np.ndarray, np.ndarray | None]], rows: np.ndarray, kind: type, storage: Memory
) -> np.ndarray | None:
    """Return the columns beside one another, filled some rows at a time; None where there is none.

    A column is its values, and the code of each place where they are places.
    """
    if not columns:
        return None
    joined = storage.empty((len(rows), len(columns)), kind)
    for start in range(0, len(rows), BLOCK_ROWS):
        cut = slice(start, start + BLOCK_ROWS)
        for place, (values, codes) in enumerate(columns):
            taken = values[rows[cut]]
            joined[cut, place] = taken if codes is None else codes[taken]
    return joined


def quoted(category: str) -> str:
    """Return a category for a list of them: quoted as in JSON where it would not read as one word or phrase."""
    plain = category.isprintable() and category == category.strip() and category not in ("", "…")
    return category if plain and not set(category) & set(',"') else json.dumps(category, ensure_ascii=False)


def _most_rows(column: Column) -> int:
    """Return in how many rows the most frequent category occurs."""
    return int(np.unique(column.values[~column.is_missing], return_counts=True)[1].max())


def _counts_rows(values: np.ndarray) -> bool:
    """Return whether whole numbers increase steadily, apart from the rows that went to other parts of the split."""
    steps = np.diff(values)
    return bool((steps > 0).all() and steps.mean() < 4) and len(values) > IDENTIFIER_ROWS


def _feature(column: Column, seen: Column, rare_rows: int) -> Feature:
    plain = Feature(
        name=column.name,
        kind=column.kind,
        value_type=column.value_type,
        missing=bool(column.is_missing.any()),
        categories=() if column.kind == "categorical" else None,
        text_rule=column.rule,
    )
    present = seen.values[~seen.is_missing]
    if column.kind != "categorical":
        limits = (float(present.min()), float(present.max())) if len(present) else None
        return plain.model_copy(update={"range": limits, "typical": _middle(plain, present)})
    counts = np.bincount(present, minlength=len(column.levels))
    listed = [level for level, count in zip(column.levels, counts, strict=True) if count >= rare_rows]
    most = column.levels[int(counts.argmax())] if listed else None
    return plain.model_copy(
        update={"categories": tuple(class_text(level) for level in sorted(listed)), "typical": most}
    )


def _middle(feature: Feature, present: np.ndarray) -> float | int | bool | str | None:
    """Return the median of a column as a JSON value; the lower of two, so that it occurs."""
    if not len(present):
        return None
    middle = float(np.quantile(present, 0.5, method="lower"))
    if feature.kind == "date":
        return f"{np.datetime64(round(middle), 's')}Z"
    kinds: dict[str, Callable[[float], float | int | bool]] = {"boolean": bool, "integer": int, "float": float}
    return kinds[feature.value_type](middle)


def _codes(feature: Feature, column: Column) -> np.ndarray:
    """Return the code of each place in the column's levels [levels + 1] int64; that of a missing value, place -1, is the last."""
    listed, unseen = feature.codes, feature.unseen_code
    of_levels = [listed.get(class_text(level), unseen) for level in column.levels]
    return np.asarray([*of_levels, feature.missing_code], np.int64)


def _detail(feature: Feature, column: Column) -> str:
    missing = f", {column.is_missing.mean():.1%} missing" if feature.missing else ""
    note = f" ({column.note})" if column.note else ""
    if feature.kind == "categorical":
        names = feature.categories or ()
        shown = ", ".join(map(quoted, names[:5])) + (", …" if len(names) > 5 else "")
        rare = len(column.levels) - len(names)
        merged = f", {rare} rare {'one' if rare == 1 else 'ones'} read as unseen" if rare > 0 else ""
        return f"{len(names)} categories: {shown}{merged}{missing}{note}"
    low, high = feature.range or (np.nan, np.nan)
    if feature.kind == "date":
        return f"{_day(low)} to {_day(high)}{missing}{note}"
    return f"{feature.value_type} {low:g} to {high:g}{missing}{note}"


def _day(seconds: float) -> str:
    return str(np.datetime64(int(seconds), "s"))
