"""What rows are split by: groups that stay on one side, or times in whose order rows train, validate and test."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from batchproof.training.data.columns import typed
from batchproof.training.data.rows.split import Split
from batchproof.training.data.tables.table import RawTable, first_place
from batchproof.training.data.tables.table_error import TableError
from batchproof.training.data.text.text_options import TextOptions, options_of
from batchproof.training.settings import Settings


@dataclass(frozen=True)
class SplitKeys:
    """The key of each row."""

    kind: Literal["group", "time"]
    column: str
    values: np.ndarray  # [rows]: int64 numbers of groups, or float64 times
    is_date: bool = False  # whether times are seconds since 1970

    def take(self, rows: np.ndarray) -> "SplitKeys":
        """Return the keys of other rows, by number [n] int64."""
        return SplitKeys(self.kind, self.column, self.values[rows], self.is_date)

    def described(self, split: Split) -> dict[str, Any]:
        """Return what bundle.json says of the split: how many groups each part has, or its first and last time."""
        parts = {part: self.values[rows] for part, rows in split._asdict().items() if len(rows)}
        if self.kind == "group":
            return {"group": self.column, "groups": {part: len(np.unique(keys)) for part, keys in parts.items()}}
        return {"time": self.column, "times": {part: self._ends(keys) for part, keys in parts.items()}}

    def line(self, split: Split) -> str:
        """Return the same for people."""
        described = self.described(split)
        if self.kind == "group":
            counts = ", ".join(f"{count} {part}" for part, count in described["groups"].items())
            return f"split by group {self.column!r}: {counts} groups"
        ends = ", ".join(f"{part} {first} to {last}" for part, (first, last) in described["times"].items())
        return f"split by time {self.column!r}: {ends}"

    def _ends(self, keys: np.ndarray) -> tuple[Any, Any]:
        first, last = float(keys.min()), float(keys.max())
        return (_date(first), _date(last)) if self.is_date else (first, last)


def read_keys(table: RawTable, settings: Settings) -> SplitKeys | None:
    """Return the keys in the column of --group or --time; None where neither is given. Raises TableError."""
    name, kind = (settings.group, "group") if settings.group is not None else (settings.time, "time")
    if name is None:
        return None
    options = options_of(name, settings, is_cells=table.is_text)
    arrow = table.arrow.column(name)
    if kind == "group":
        return groups_of(name, arrow, options, table.place)
    return times_of(name, arrow, options, table.place)


def groups_of(
    name: str, arrow: pa.ChunkedArray, options: TextOptions | None = None, place: Callable[[int], str] = "row {}".format
) -> SplitKeys:
    """Return the groups in a column of text, whole numbers or dates; `place` names a row. Raises TableError."""
    column = typed(name, arrow, None, options or TextOptions())
    if column is None:
        raise TableError(
            f"--group names {name!r}, which holds {arrow.type} values: a group is a text, a number or a date."
        )
    _check_present(name, "group", column.is_missing, place)
    distinct, groups = np.unique(column.values, return_inverse=True)
    if len(distinct) < 2:
        raise TableError(f"the group {name!r} has one value in every row: there is nothing to keep apart.")
    return SplitKeys("group", name, groups.astype(np.int64))


def times_of(
    name: str, arrow: pa.ChunkedArray, options: TextOptions | None = None, place: Callable[[int], str] = "row {}".format
) -> SplitKeys:
    """Return the times in a column of dates or numbers; `place` names a row. Raises TableError."""
    column = typed(name, arrow, None, options or TextOptions())
    if column is None or column.kind == "categorical":
        text = next((str(value) for value in arrow.slice(0, 100).to_pylist() if value not in (None, "")), "nothing")
        raise TableError(
            f"--time names {name!r}, which cannot be read as a time ({text[:40]!r}): a time is a number or a date; "
            "--date-format says how dates are written."
        )
    _check_present(name, "time", column.is_missing, place)
    if column.values.min() == column.values.max():
        raise TableError(f"the time {name!r} is the same in every row: nothing is before or after.")
    return SplitKeys("time", name, column.values, column.kind == "date")


def _check_present(name: str, what: str, is_missing: np.ndarray, place: Callable[[int], str]) -> None:
    if is_missing.any():
        where = first_place(is_missing, place)
        raise TableError(f"the {what} {name!r} has no value in {where}: fill it in or remove such rows.")


def _date(seconds: float) -> str:
    return f"{np.datetime64(round(seconds), 's')}Z"
