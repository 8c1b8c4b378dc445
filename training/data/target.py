"""What is predicted: the task, its classes, and the target of every row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from batchproof.service.bundle.signature import MOST_TARGETS, ClassLabel, Task, class_text
from batchproof.service.features.arrays import Outputs
from batchproof.service.features.row_encoder import listed
from batchproof.service.features.texts.number_texts import parse_number
from batchproof.service.features.texts.text_cells import USUAL
from batchproof.training.data.column import Column
from batchproof.training.data.columns import typed
from batchproof.training.data.tables.table import RawTable, first_place
from batchproof.training.data.tables.table_error import TableError
from batchproof.training.data.text.text_options import flag_text, options_of, targets_of
from batchproof.training.goal import RegressionLoss, quantile_levels
from batchproof.training.settings import SettingError, Settings, flag

FEW_VALUES = 10  # a whole-number target with at most this many distinct values is read as classes
MOST_CLASSES = 1000
STEP = 2.0**-20  # least spread of a target relative to its greatest value: eight steps of float32
SIZES = (1e-30, 1e30)  # of a target's greatest value: outputs are float32, and so are squares of errors in their unit
MEANS = (1e-20, 1e20)  # of amounts and counts: predictions forty powers of e away are normal float32 numbers still


@dataclass(frozen=True)
class Target:
    """The target of all rows."""

    name: str  # of several, all names in one text
    task: Task
    y: np.ndarray  # [rows] int64 class codes, or float64 values; of several targets [rows, targets] float64
    classes: tuple[ClassLabel, ...] | None  # in the order of the codes; None for regression
    reason: str  # why this task, where it was inferred
    warnings: tuple[str, ...] = ()  # how its texts were read, each with what to do
    objective: RegressionLoss = "squared_error"  # of a regression: what the fit minimises
    quantiles: tuple[float, ...] = ()  # of a regression: the levels that are predicted beside the value
    several: tuple[str, ...] = ()  # the names of several targets, in the order of y's columns; empty where there is one
    scales: tuple[float, ...] = ()  # of several targets: the standard deviation of each over the training rows

    @property
    def names(self) -> tuple[str, ...]:
        """The predicted columns: one, or several."""
        return self.several or (self.name,)

    @property
    def parts(self) -> tuple["Target", ...]:
        """Each target by itself, in order."""
        if not self.several:
            return (self,)
        columns = (np.ascontiguousarray(column) for column in self.y.T)
        names = zip(self.several, columns, strict=True)
        return tuple(replace(self, name=name, y=y, several=(), scales=()) for name, y in names)

    def answers(self, outputs: Outputs) -> np.ndarray:
        """Return what is compared with y: probabilities [rows, classes], values [rows], or those of several targets [rows, targets]."""
        if self.classes is not None:
            return outputs["probabilities"]
        return outputs["value"] if self.several else outputs["value"][:, 0]

    @property
    def described(self) -> str:
        """What a sentence says of numbers: that it is one, or they are."""
        return "are numbers" if self.several else "is a number"

    @property
    def strata(self) -> np.ndarray:
        """The strata of the split [rows]: the classes, or one stratum."""
        return self.y if self.classes is not None else np.zeros(len(self.y), np.int64)


def read(table: RawTable, settings: Settings) -> Target:
    """Return the target of a table's rows; TableError where it cannot be predicted."""
    names = targets_of(settings.target, table.names)
    is_number = settings.objective is not None or settings.quantiles is not None
    wanted = settings.task or ("regression" if is_number else None)
    if len(names) > 1:
        check_several(names, settings)
    columns = [_column(table, name, settings) for name in names]
    of_text = next((column.name for column in columns if column.kind == "categorical"), None)
    if len(names) > 1 and of_text is not None:
        raise TableError(
            f"several targets must all be numbers, but {of_text!r} is text: train another model for {of_text!r}."
        )
    found = [target_of(column, wanted, table) for column in columns]
    warnings = [f"the target {column.name!r}: {warning}." for column in columns for warning in column.warnings]
    return replace(found[0] if len(found) == 1 else together(found), warnings=tuple(warnings))


def check_several(names: Sequence[str], settings: Settings) -> None:
    """Raise SettingError for more targets than a bundle holds, and for what several targets cannot have."""
    if len(names) > MOST_TARGETS:
        raise SettingError(f"--target names {len(names)} columns: {MOST_TARGETS} are the most.")
    if settings.task not in (None, "regression"):
        raise SettingError(
            f"--task is {settings.task}, but several targets, {listed(names)}, must all be numbers: train a model for each."
        )
    for name in ("objective", "quantiles", "class_weight", "class_prior", "threshold"):
        if getattr(settings, name) not in (None, "squared_error"):
            raise SettingError(
                f"{flag(name)} is for one target, but there are {len(names)}: leave it out, or train a model for each target."
            )


def together(found: Sequence[Target]) -> Target:
    """Return several targets as one; TableError where one of them is of classes."""
    names = tuple(target.name for target in found)
    of_classes = next((target for target in found if target.classes is not None), None)
    if of_classes is not None:
        numbers = all(isinstance(label, int) and not isinstance(label, bool) for label in of_classes.classes or ())
        way = "--task regression predicts it as a number" if numbers else f"train another model for {of_classes.name!r}"
        raise TableError(
            f"several targets must all be numbers, but {of_classes.name!r} has {len(of_classes.classes or ())} classes "
            f"({of_classes.reason.partition(';')[0]}): {way}."
        )
    y = np.stack([target.y for target in found], axis=1)
    return Target(", ".join(names), "regression", y, None, "the targets are numbers", several=names)


def is_missing(table: RawTable, settings: Settings) -> np.ndarray:
    """Return which rows lack a target [rows] bool; TableError where none has one, or it cannot be predicted."""
    missing = [_column(table, name, settings).is_missing for name in targets_of(settings.target, table.names)]
    return np.asarray(np.any(missing, axis=0))


def _column(table: RawTable, name: str, settings: Settings) -> Column:
    arrow = table.arrow.column(name)
    if arrow.null_count == len(arrow):
        raise TableError(f"the target {name!r} has no value in any row.")
    if name in table.unusable:
        raise TableError(f"the target {name!r} cannot be used: {table.unusable[name]}.")
    column = typed(name, arrow, settings.kind_of(name), options_of(name, settings, is_cells=table.is_text))
    if column is None:
        raise TableError(f"the target {name!r} holds {arrow.type} values: it must be numbers, text or booleans.")
    return column


def target_of(column: Column, wanted: Task | None = None, table: RawTable | None = None) -> Target:
    """Return the target in a typed column, for the task `wanted` or inferred; TableError where it cannot be predicted.

    `table` is where the column comes from: a refusal then names the row, and what is written there.
    """
    if column.kind == "date":
        raise TableError(
            f"the target {column.name!r} is a date, which cannot be predicted: make it a number, such as the days since a "
            "day of your choice."
        )
    missing = column.is_missing
    if missing.any():
        raise _missing(column, missing, table)
    task, reason = (wanted, "as requested") if wanted else infer(column)
    if task == "regression":
        return _values(column, reason)
    labels, y = _classes(column)
    _check_classes(column.name, labels, len(y), task)
    return Target(column.name, task, y, labels, reason)


def with_goal(target: Target, settings: Settings, train: np.ndarray, place: Callable[[int], str]) -> Target:
    """Return the target with what its fit minimises, and with the quantiles that are predicted beside it.

    Raises TableError for classes, for a value that the objective has no likelihood for, by its `place`, and where all
    rows numbered `train` are 0.
    """
    for name in ("objective", "quantiles"):
        if getattr(settings, name) is not None and target.classes is not None:
            verb, them = ("is", "it") if name == "objective" else ("are", "them")
            raise TableError(
                f"--{name} {verb} for numbers, but the target {target.name!r} has {len(target.classes)} classes: leave {them} out."
            )
    if target.several:
        return replace(target, scales=tuple(std or 1.0 for std in np.std(target.y[train], axis=0).tolist()))
    target = replace(target, quantiles=quantile_levels(settings.quantiles))
    if settings.objective is None:
        return target
    _check_likelihood(target, settings.objective, train, place)
    return replace(target, objective=cast(RegressionLoss, settings.objective))


def _check_likelihood(target: Target, objective: str, train: np.ndarray, place: Callable[[int], str]) -> None:
    for name, is_bad, wanted in (
        ("poisson", target.y < 0.0, "numbers from 0 up, such as counts"),
        ("gamma", target.y <= 0.0, "numbers above 0"),
    ):
        if objective == name and is_bad.any():
            number = f"{target.y[is_bad][0]:g}"
            zero = (
                "; --objective poisson takes 0 too" if number == "0" else "; --objective squared_error takes any number"
            )
            raise TableError(
                f"--objective {name} needs {wanted}, but the target {target.name!r} is {number} in "
                f"{first_place(is_bad, place)}: correct or leave out such rows{zero}."
            )
    if objective == "squared_error":
        return
    if not target.y[train].any():
        raise TableError(f"the target {target.name!r} is 0 in every training row: there is nothing to predict.")
    mean = float(target.y[train].mean())
    if not MEANS[0] <= mean <= MEANS[1]:
        raise TableError(
            f"the training rows' mean of the target {target.name!r} is {mean:g}: with --objective {objective}, write it in a unit "
            f"in which it is between {MEANS[0]:g} and {MEANS[1]:g}."
        )


def _missing(column: Column, missing: np.ndarray, table: RawTable | None) -> TableError:
    """Return the refusal of a target without a value: the number of such rows, the place of the first, and its cell."""
    count, first = int(missing.sum()), int(np.flatnonzero(missing)[0])
    place = f"row {first}" if table is None else table.place(first)
    rows = place if count == 1 else f"{count} rows, the first is {place}"
    what = "no value" if column.kind == "categorical" else "no finite value"
    sentence = f"the target {column.name!r} has {what} in {rows}"
    cell = table.arrow.column(column.name)[first].as_py() if table is not None and table.is_text else ""
    remedy = "fill in the values or remove these rows."
    number = parse_number(cell.strip(), USUAL)
    if not cell.strip() or number is not None:  # nothing, or an infinite number
        return TableError(f"{sentence}: {remedy}")
    sentence += f", where {cell[:40]!r} reads as a missing value"
    if column.kind != "categorical":
        return TableError(f"{sentence}: {remedy}")
    return TableError(f"{sentence}: {flag_text('text', column.name)} reads it as a class; otherwise {remedy}")


def infer(column: Column) -> tuple[Task, str]:
    """Return the task and why: text, booleans and few whole numbers are classes, other numbers are values."""
    if column.kind == "categorical":
        task: Task = "binary" if len(np.unique(column.values)) == 2 else "multiclass"
        return task, "the target is text"
    distinct = np.unique(column.values)
    if column.kind == "numeric" and len(distinct) <= 2:
        return "binary", "the target has two values"
    if column.value_type == "integer" and len(distinct) <= FEW_VALUES:
        return "multiclass", f"the target has {len(distinct)} whole numbers; --task regression predicts them as numbers"
    return "regression", "the target is a number"


def _values(column: Column, reason: str) -> Target:
    if column.kind == "categorical":
        raise TableError(f"the target {column.name!r} is text, and a regression needs numbers.")
    if column.values.min() == column.values.max():
        raise TableError(
            f"the target {column.name!r} is {column.values[0]:g} in every row: there is nothing to predict."
        )
    check_size(column.name, column.values)
    return Target(column.name, "regression", column.values, None, reason)


def check_size(name: str, y: np.ndarray) -> None:
    """Raise TableError for values [rows] that float32 outputs cannot distinguish from 0, infinity or one another."""
    greatest, spread = float(np.abs(y).max()), float(np.ptp(y / 2)) * 2  # halves: a difference must not overflow
    if not SIZES[0] <= greatest <= SIZES[1]:
        raise TableError(
            f"the target {name!r} has values as large as {greatest:.3g}, and predictions are 32-bit floats: "
            f"choose a unit in which the largest value is between {SIZES[0]:g} and {SIZES[1]:g}."
        )
    if spread < greatest * STEP:
        raise TableError(
            f"the target {name!r} varies by {spread:.3g} around {greatest:.10g}, and predictions are 32-bit floats, "
            "which cannot distinguish such values: subtract their mean."
        )


def _classes(column: Column) -> tuple[tuple[ClassLabel, ...], np.ndarray]:
    if column.kind == "categorical":
        order = sorted(range(len(column.levels)), key=lambda place: column.levels[place])
        used = [place for place in order if (column.values == place).any()]
        codes = np.full(len(column.levels), -1, np.int64)
        codes[used] = np.arange(len(used))
        return tuple(column.levels[place] for place in used), codes[column.values]
    distinct, y = np.unique(column.values, return_inverse=True)
    return tuple(_label(value, column.value_type) for value in distinct.tolist()), y.astype(np.int64)


def _label(value: float, value_type: str) -> ClassLabel:
    if value_type == "boolean":
        return bool(value)
    return int(value) if value.is_integer() else repr(value)


def _check_classes(name: str, labels: tuple[ClassLabel, ...], rows: int, task: Task) -> None:
    if len(labels) < 2:
        raise TableError(f"the target {name!r} is {labels[0]!r} in every row: there is nothing to predict.")
    if task == "binary" and len(labels) != 2:
        raise TableError(f"the target {name!r} has {len(labels)} classes, but --task binary needs two.")
    if task == "multiclass" and len(labels) == 2:
        raise TableError(f"the target {name!r} has two classes: its task is binary.")
    if len(labels) > min(MOST_CLASSES, rows // 2):
        raise TableError(
            f"the target {name!r} has {len(labels)} classes in {rows} rows: at most {min(MOST_CLASSES, rows // 2)} are allowed."
        )
    if len({class_text(label) for label in labels}) < len(labels):
        raise TableError(f"the target {name!r} has classes that differ only in their type.")
