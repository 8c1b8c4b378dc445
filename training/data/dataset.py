"""From a file to arrays: read, type, split, describe and encode. Only ranges and categories are fitted here."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from batchproof.service.bundle.signature import Signature
from batchproof.service.features.arrays import Arrays
from batchproof.training.data import schema as schemas
from batchproof.training.data import target as targets
from batchproof.training.data.columns import Column, check_range, typed
from batchproof.training.data.schema import Dropped, Schema
from batchproof.training.data.split import Split, split_rows
from batchproof.training.data.table import RawTable, TableError, nearest, read
from batchproof.training.data.target import Target
from batchproof.training.settings import Settings


@dataclass(frozen=True)
class Dataset:
    """A table, ready to fit on."""

    table: RawTable
    columns: tuple[Column, ...]  # of all rows, without the target
    target: Target
    schema: Schema
    split: Split
    arrays: dict[str, Arrays]  # train, validation, test -> the graph's inputs
    weight: np.ndarray | None = None  # [rows] float64, how much each row counts in the fit

    @property
    def evaluation_part(self) -> str:
        """The part that metrics are measured on: the test rows, or the validation rows where there are none."""
        return "test" if len(self.split.test) else "validation"

    @property
    def signature(self) -> Signature:
        """The features and the target."""
        return self.schema.signature

    def y(self, part: str) -> np.ndarray:
        """Return the target of one part [rows]: class codes or float64 values."""
        rows: np.ndarray = getattr(self.split, part)
        return self.target.y.take(rows)

    def weights(self, part: str) -> np.ndarray | None:
        """Return the weight of each row of one part [rows] float32, mean 1 over the training rows; None: all equal."""
        if self.weight is None:
            return None
        unit = self.weight[self.split.train].mean()
        rows: np.ndarray = getattr(self.split, part)
        return np.asarray(self.weight[rows] / unit, np.float32)

    def lines(self) -> list[str]:
        """Return what was decided, for people: the target, the split, and a line for each column."""
        target, sizes = self.target, {part: len(getattr(self.split, part)) for part in Split._fields}
        classes = "" if target.classes is None else f", {len(target.classes)} classes"
        return [
            f"{self.table.path.name}: {len(target.y)} rows, {len(self.table.names)} columns",
            f"target {target.name!r}: {target.task}{classes} ({target.reason})",
            "rows: " + ", ".join(f"{count} {part}" for part, count in sizes.items()),
            *self.schema.lines(self.columns),
        ]


def prepare(path: Path, settings: Settings) -> Dataset:
    """Read the table and prepare it as the settings say. Raises TableError."""
    table, own_rows = _with_test(read(path), settings)
    _check_names(table, settings)
    target = targets.read(table, settings)
    split = split_rows(table, target, settings, own_rows)
    left_out = {settings.target, settings.split_column, *settings.drop}
    names = [name for name in table.names if name not in left_out]
    return arrange(table, names, target, split, settings)


def arrange(
    table: RawTable,
    names: list[str],
    target: Target,
    split: Split,
    settings: Settings,
    weight: np.ndarray | None = None,
) -> Dataset:
    """Read and encode the columns `names` of a table that is split already. Raises TableError."""
    columns, dropped = _columns(table, settings, names)
    schema = schemas.infer(columns, target, split.train, rare_rows=settings.rare_rows, keep=settings.keep)
    requested = tuple(Dropped(name, "as requested") for name in settings.drop)
    schema = Schema(schema.signature, schema.dropped + dropped + requested)
    arrays = {part: schemas.encode(schema.signature, columns, getattr(split, part)) for part in Split._fields}
    return Dataset(table, columns, target, schema, split, arrays, weight)


def _with_test(table: RawTable, settings: Settings) -> tuple[RawTable, int]:
    """Append the rows of the test file, if there is one; also returns the number of the table's own rows."""
    rows = table.arrow.num_rows
    if settings.test is None:
        return table, rows
    if settings.split_column is not None:
        raise TableError("--test and --split-column both define the test rows: use one of them.")
    other = read(Path(settings.test))
    for name in table.names:
        if name not in other.names:
            raise TableError(f"{other.path} has no column {name!r}: {nearest(name, other.names)}")
    try:
        both = pa.concat_tables([table.arrow, other.arrow.select(table.names)], promote_options="permissive")
    except pa.ArrowException as error:
        raise TableError(
            f"the columns of {other.path} have other types than those of {table.path}: {error}."
        ) from error
    return RawTable(table.path, both, table.sha256), rows


def _check_names(table: RawTable, settings: Settings) -> None:
    flags = {"target": (settings.target,), "split-column": (settings.split_column,)}
    flags |= {kind: getattr(settings, kind) for kind in ("numeric", "categorical", "date", "drop", "keep")}
    for flag, names in flags.items():
        for name in names:
            if name is not None and name not in table.names:
                raise TableError(f"--{flag} names {name!r}, but there is no such column: {nearest(name, table.names)}")


def _columns(table: RawTable, settings: Settings, names: list[str]) -> tuple[tuple[Column, ...], tuple[Dropped, ...]]:
    columns, dropped = [], []
    for name in names:
        if not name:
            dropped.append(Dropped(name, "no name"))
            continue
        arrow = table.arrow.column(name)
        column = typed(name, arrow, settings.kind_of(name))
        if column is None:
            dropped.append(Dropped(name, f"{arrow.type} values are not numbers, text or dates"))
        else:
            check_range(column)
            columns.append(column)
    return tuple(columns), tuple(dropped)
