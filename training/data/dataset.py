"""From a file to arrays: read, type, split, describe and encode. Only ranges and categories are fitted here."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from batchproof.service.bundle.signature import Signature
from batchproof.service.configuration.address import AddressError, root_of
from batchproof.service.features.arrays import Arrays
from batchproof.service.features.row_encoder import listed
from batchproof.training.data import advice
from batchproof.training.data import schema as schemas
from batchproof.training.data import target as targets
from batchproof.training.data.column import Column
from batchproof.training.data.columns import check_empty, check_range, mark_warning, typed
from batchproof.training.data.rows.choices import check_choices
from batchproof.training.data.rows.keys import SplitKeys, read_keys
from batchproof.training.data.rows.parts import split_rows
from batchproof.training.data.rows.prior import Prior, read_prior, thinned
from batchproof.training.data.rows.split import Split
from batchproof.training.data.rows.weights import class_weights, counting, row_weights, weight_lines
from batchproof.training.data.schema import Dropped, Schema
from batchproof.training.data.tables.local_table import local_table
from batchproof.training.data.tables.size import storage_for
from batchproof.training.data.tables.storage import MEMORY, Memory
from batchproof.training.data.tables.table import RawTable, nearest, read
from batchproof.training.data.tables.table_error import TableError
from batchproof.training.data.target import Target
from batchproof.training.data.text.text_options import COLUMN_FLAGS, flag_text, options_of, resolve, targets_of
from batchproof.training.settings import ROLES, Settings


@dataclass(frozen=True)
class Dataset:
    """A table, ready to fit on."""

    table: RawTable  # without its values
    columns: tuple[Column, ...]  # of all rows, without the target
    target: Target
    schema: Schema
    split: Split
    arrays: dict[str, Arrays]  # train, validation, test -> the graph's inputs
    weight: np.ndarray | None = None  # [rows] float64, how much each row counts in the fit
    class_weight: np.ndarray | None = None  # [classes] float64, how much the rows of each class count besides
    prior: Prior | None = None  # the shares of the classes where the model will be used, where they were stated
    monotone: Mapping[str, int] = field(default_factory=dict)  # feature -> 1: predictions never fall with it, -1
    keys: SplitKeys | None = None  # what the rows were split by, besides their classes
    warnings: tuple[str, ...] = ()  # what the table's owner should know, each with what to do
    room_bytes: int = 0  # of memory, for encoded rows

    @property
    def evaluation_part(self) -> str:
        """The part that metrics are measured on: the test rows, or the validation rows where there are none."""
        return "test" if len(self.split.test) else "validation"

    @property
    def signature(self) -> Signature:
        """The features and the target."""
        return self.schema.signature

    @property
    def directions(self) -> np.ndarray:
        """The constraint of each numeric feature, dates among them [features] int8: 1, -1 or 0."""
        return np.asarray([self.monotone.get(feature.name, 0) for feature in self.signature.numeric], np.int8)

    @property
    def dates(self) -> tuple[int, ...]:
        """Which numeric features are dates, by number."""
        return tuple(number for number, feature in enumerate(self.signature.numeric) if feature.kind == "date")

    def y(self, part: str) -> np.ndarray:
        """Return the target of one part [rows]: class codes or float64 values; of several targets [rows, targets]."""
        return np.asarray(self.target.y.take(getattr(self.split, part), axis=0))

    def weights(self, part: str) -> np.ndarray | None:
        """Return how much each row of one part counts in the loss [rows] float32: its own weight times that of its class.

        The mean over the training rows is 1; None: all rows count equally.
        """
        return self._in_units(counting(self.target.y, self.weight, self.class_weight), part)

    def row_weights(self, part: str) -> np.ndarray | None:
        """Return the weight of each row of one part [rows] float32, whatever its class; None: all equal."""
        return self._in_units(self.weight, part)

    def measured(self) -> "Dataset":
        """Return the data with the validation and test rows that have the stated shares of the classes; all without them."""
        if self.prior is None:
            return self
        split, arrays = thinned(self.prior, self.target.y, self.split, self.arrays)
        return replace(self, split=split, arrays=arrays)

    def _in_units(self, weight: np.ndarray | None, part: str) -> np.ndarray | None:
        if weight is None:
            return None
        unit = weight[self.split.train].mean()
        return np.asarray(weight[getattr(self.split, part)] / unit, np.float32)

    def lines(self) -> list[str]:
        """Return what was decided, for people: the target, the split, and a line for each column."""
        target, sizes = self.target, {part: len(getattr(self.split, part)) for part in Split._fields}
        classes = "" if target.classes is None else f", {len(target.classes)} classes"
        named = f"target {target.name!r}" if len(target.names) == 1 else f"targets {listed(target.names)}"
        return [
            f"{self.table.path.name}: {len(target.y)} rows, {len(self.table.names)} columns",
            f"{named}: {target.task}{classes} ({target.reason})",
            "rows: " + ", ".join(f"{count} {part}" for part, count in sizes.items()),
            *([] if self.keys is None else [self.keys.line(self.split)]),
            *weight_lines(self.target, self.weight, self.class_weight),
            *([] if self.prior is None else [self.prior.line(self.target, self.split, self.measured().split)]),
            *self.schema.lines(self.columns),
            *(f"warning: {line}" for line in self.warnings if advice.is_private(line)),
        ]

    def warning_lines(self) -> list[str]:
        """Return the warnings, for people."""
        return [f"warning: {line}" for line in self.warnings]


def prepare(path: Path, settings: Settings, say: Callable[[str], None] = lambda _: None) -> Dataset:
    """Read the table and prepare it as the settings say; `say` gets a line where that takes scratch files.

    Raises TableError or ScratchError.
    """
    with _test_table(settings) as tests:
        storage = storage_for([path, *tests], settings.memory, say)
        table, own_rows = _with_test(read(path, storage), tests, storage)
    settings = resolve(settings, table.names)
    _check_names(table, settings)
    table, own_rows, weight = _usable_rows(table, settings, own_rows, storage)
    target = targets.read(table, settings)
    keys = read_keys(table, settings)
    split = split_rows(table, target, settings, own_rows, keys)
    names = _feature_names(table, settings)
    return replace(arrange(table, names, target, split, settings, weight, storage), keys=keys)


def _usable_rows(
    table: RawTable, settings: Settings, own_rows: int, storage: Memory
) -> tuple[RawTable, int, np.ndarray | None]:
    """Leave out the rows that cannot be used or do not count.

    Also returns how many of the first `own_rows` are left, and the weights of the rows that are left [rows] float64.
    """
    if settings.skip_missing_target:
        is_missing = targets.is_missing(table, settings)
        what = "no target" if len(targets_of(settings.target, table.names)) == 1 else "not every target"
        table, own_rows = _without(table, own_rows, is_missing, f"they have {what}", storage)
    weight = row_weights(table, settings)
    if weight is None:
        return table, own_rows, None
    return *_without(table, own_rows, weight == 0, "their weight is 0", storage), weight[weight > 0]


def _without(table: RawTable, own_rows: int, left_out: np.ndarray, why: str, storage: Memory) -> tuple[RawTable, int]:
    if not left_out.any():
        return table, own_rows
    return table.without(left_out, why, storage), own_rows - int(left_out[:own_rows].sum())


def _feature_names(table: RawTable, settings: Settings) -> list[str]:
    """Return the names of the columns that may be features."""
    keys = {name for name in (settings.group, settings.time) if name not in settings.keep}
    named = targets_of(settings.target, table.names)
    left_out = {*named, settings.split_column, settings.weight, *settings.drop, *keys}
    return [name for name in table.names if name not in left_out]


def arrange(
    table: RawTable,
    names: list[str],
    target: Target,
    split: Split,
    settings: Settings,
    weight: np.ndarray | None = None,
    storage: Memory = MEMORY,
) -> Dataset:
    """Read and encode the columns `names` of a table that is split already, and leave it without values.

    Raises TableError or ScratchError.
    """
    settings = resolve(settings, table.names)
    target = targets.with_goal(target, settings, split.train, table.place)
    check_choices(target, settings)
    class_weight = class_weights(target, split.train, settings.class_weight, weight)
    counted = counting(target.y, weight, class_weight)
    prior = read_prior(target, split.train, settings.class_prior, counted)
    columns, dropped = _columns(table, settings, names, storage)
    schema = schemas.infer(
        columns, target, split.train, rare_rows=settings.rare_rows, keep=settings.keep, unusable=dropped
    )
    requested = tuple(Dropped(name, "as requested") for name in settings.drop)
    left_out = schema.dropped + dropped + requested
    roles = (getattr(settings, role) for role in ROLES)
    others = tuple(role for role in roles if role is not None and role not in names)
    ignored = tuple(dict.fromkeys((*others, *(drop.name for drop in left_out))))
    schema = Schema(schema.signature.model_copy(update={"ignored": ignored}), left_out)
    arrays = {part: schemas.encode(schema.signature, columns, getattr(split, part), storage) for part in Split._fields}
    warnings = (*table.warnings, *target.warnings, *advice.on_columns(schema, columns))
    return Dataset(
        table,
        columns,
        target,
        schema,
        split,
        arrays,
        weight,
        class_weight,
        prior,
        schemas.constrained(schema, target, settings),
        warnings=warnings,
        room_bytes=storage.room_bytes,
    )


@contextmanager
def _test_table(settings: Settings) -> Iterator[list[Path]]:
    """Yield the path of the table with the test rows, of one at an address that of a copy; none where there is none."""
    if settings.test is None:
        yield []
        return
    if settings.split_column is not None:
        raise TableError("--test and --split-column both define the test rows: use one of them.")
    try:
        root = root_of(settings.test)
    except AddressError as error:
        raise TableError(f"--test: {error}.") from error
    with local_table(root) as path:
        yield [path]


def _with_test(table: RawTable, tests: list[Path], storage: Memory) -> tuple[RawTable, int]:
    """Append the rows of the test table, if there is one; also returns the number of the table's own rows."""
    rows = table.arrow.num_rows
    if not tests:
        return table, rows
    other = read(tests[0], storage)
    for name in table.names:
        if name not in other.names:
            raise TableError(f"{other.path} has no column {name!r}: {nearest(name, other.names)}")
    try:
        both = pa.concat_tables([table.arrow, other.arrow.select(table.names)], promote_options="permissive")
    except pa.ArrowException as error:
        raise TableError(
            f"the columns of {other.path} have other types than those of {table.path}: {error}."
        ) from error
    if table.is_text != other.is_text:
        raise TableError(f"{other.path} and {table.path} are of two kinds, one of text: give both in one format.")
    return table.extended(both, other), rows


def _check_names(table: RawTable, settings: Settings) -> None:
    flags = {
        "target": targets_of(settings.target, table.names),
        **{role.replace("_", "-"): (getattr(settings, role),) for role in ROLES},
    }
    flags |= {kind: getattr(settings, kind) for kind in COLUMN_FLAGS}
    for flag, names in flags.items():
        for name in names:
            if name is not None and name not in table.names:
                raise TableError(f"--{flag} names {name!r}, but there is no such column: {nearest(name, table.names)}")


def _columns(
    table: RawTable, settings: Settings, names: list[str], storage: Memory
) -> tuple[tuple[Column, ...], tuple[Dropped, ...]]:
    named = {name for flag in COLUMN_FLAGS for name in getattr(settings, flag)}
    usable, dropped = [], []
    for name in names:
        reason = _unusable(table, name, is_named=name in named)
        if reason is None:
            usable.append(name)
        else:
            dropped.append(Dropped(name, reason))
    check_empty(table, usable, settings)
    columns, values = [], table.drained(usable)
    for name in usable:
        arrow = values.pop(name)
        column = typed(name, arrow, settings.kind_of(name), options_of(name, settings, is_cells=table.is_text))
        if column is None:
            dropped.append(Dropped(name, f"{arrow.type} values are neither numbers, text nor dates"))
        else:
            check_range(column)
            mark = mark_warning(column)
            warnings = column.warnings if mark is None else (*column.warnings, mark)
            columns.append(replace(column, values=storage.hold(column.values), warnings=warnings))
    return tuple(columns), tuple(dropped)


def _unusable(table: RawTable, name: str, *, is_named: bool) -> str | None:
    """Return why a column is not looked at, or None."""
    if not name:
        return "it has no name"
    if name in table.index and not is_named:
        return f"it numbers the rows of a data frame; {flag_text('keep', name)} reads it"
    return table.unusable.get(name)
