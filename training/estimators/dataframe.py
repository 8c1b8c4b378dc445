"""Data frames and arrays as the table that training reads: columns by name, a target, a split."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from batchproof.service.bundle.signature import ClassLabel, Signature, Task, class_text
from batchproof.service.errors import ServiceError, nearest
from batchproof.service.features.arrays import Arrays
from batchproof.service.features.row_encoder import Encoder
from batchproof.service.tables.offline.local_frame import arrays_of
from batchproof.training.data.dataset import Dataset, arrange
from batchproof.training.data.rows.keys import SplitKeys, groups_of, times_of
from batchproof.training.data.rows.parts import check_classes, drawn
from batchproof.training.data.tables import table
from batchproof.training.data.tables.table_error import TableError
from batchproof.training.data.target import MOST_CLASSES, Target, check_size
from batchproof.training.settings import Settings

LEAST_ROWS = 4  # two to train, one to validate, and one more so that a class can have two
NAME = "the data frame"


def is_frame(x: Any) -> bool:
    """Whether `x` is a data frame: pandas, polars, an Arrow table, anything that hands out Arrow columns."""
    return hasattr(x, "__arrow_c_stream__") or hasattr(x, "iloc")


def names_of(x: Any) -> list[str]:
    """Return the names of a data frame's columns as text: the column 3 becomes the feature "3"."""
    return [str(name) for name in (x.columns if hasattr(x, "iloc") else pa.table(x).column_names)]


def arrow_of(x: Any) -> pa.Table:
    """Return a data frame, or an array [rows, features] float64 with columns named x0, x1, …, as an Arrow table.

    Raises TableError for a column whose values are of several types.
    """
    if isinstance(x, np.ndarray):
        return pa.table({f"x{column}": x[:, column] for column in range(x.shape[1])})
    if not hasattr(x, "iloc"):
        table_of = pa.table(x)
    else:
        columns = [_arrow_column(name, x.iloc[:, place]) for place, name in enumerate(names_of(x))]
        table_of = pa.table(columns, names=names_of(x))
    return table_of.replace_schema_metadata(None)


def _arrow_column(name: str, column: Any) -> Any:
    try:
        return pa.Array.from_pandas(column)
    except pa.ArrowException as error:
        present = column.dropna() if hasattr(column, "dropna") else column
        kinds = sorted({type(value).__name__ for value in present})
        raise TableError(
            f"column {name!r} holds values of several types, {' and '.join(kinds[:5])}: give it one type"
        ) from error


def data_of(
    arrow: pa.Table, goal: Target, settings: Settings, weight: np.ndarray | None, keys: SplitKeys | None = None
) -> Dataset:
    """Split the rows, by their keys if there are any, and arrange them to fit on; TableError in one sentence."""
    raw = table.held(arrow, NAME)
    parts = drawn(goal.strata, keys, settings.seed, (settings.validation_share, settings.test_share), LEAST_ROWS)
    if keys is not None:
        check_classes(goal, parts)
    names = [name for name in raw.names if name not in settings.drop]
    return replace(arrange(raw, names, goal, parts, settings, weight), keys=keys)


def keys_of(groups: Any, times: Any, rows: int) -> SplitKeys | None:
    """Return what the rows are split by, of `groups` or `times` [rows]; None for neither.

    Raises ValueError for both, for another number of rows, and for values that cannot be groups or times.
    """
    if groups is not None and times is not None:
        raise ValueError("groups and times both say how rows are split: give one of them.")
    given, name = (groups, "groups") if groups is not None else (times, "times")
    if given is None:
        return None
    column = _arrow_column(name, given)
    column = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
    if len(column) != rows:
        raise ValueError(f"{name} has {len(column)} values for {rows} rows: there must be one for each row.")
    return groups_of(name, column) if name == "groups" else times_of(name, column)


def classes_of(y: np.ndarray, name: str) -> tuple[np.ndarray, Target]:
    """Return the distinct classes in order, and the goal of class codes; ValueError where there is one class only."""
    classes, codes = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"a classifier needs two classes or more, but y has one class: {classes.tolist()}")
    if len(classes) > MOST_CLASSES:
        raise ValueError(f"y has {len(classes)} classes: {MOST_CLASSES} are the most")
    labels = tuple(_label(value) for value in classes.tolist())
    if len({class_text(label) for label in labels}) < len(labels):
        raise ValueError("y has classes that differ only in their type")
    task: Task = "binary" if len(labels) == 2 else "multiclass"
    return classes, Target(name, task, codes.astype(np.int64), labels, "a classifier was asked for")


def target_names(given: list[Any], count: int, columns: list[str]) -> tuple[str, ...]:
    """Return the names of `count` targets: the `given` ones, where they are texts that fit, or others that no column has."""
    texts = [name for name in given if isinstance(name, str) and name and name not in columns]
    if len(set(texts)) == len(given) == count and not (count > 1 and any("," in name for name in texts)):
        return tuple(texts)
    start = "target"
    while any(name.startswith(start) for name in columns) if count > 1 else start in columns:
        start += "_"
    return (start,) if count == 1 else tuple(f"{start}{place}" for place in range(count))


def values_of(y: np.ndarray, names: tuple[str, ...]) -> Target:
    """Return the goal of float64 values [rows] or [rows, targets]; ValueError where y is not a number."""
    try:
        values = y.astype(np.float64)
    except (ValueError, TypeError) as error:
        raise ValueError("y holds text: a regressor takes numbers; BatchNormMLPClassifier takes classes.") from error
    for name, column in zip(names, values.reshape(len(values), -1).T, strict=True):
        if np.ptp(column / 2) > 0:  # scikit-learn's estimators accept a constant
            check_size(name, column)
    several = names if len(names) > 1 else ()
    return Target(", ".join(names), "regression", values, None, "a regressor was asked for", several=several)


def by_class_text(given: str | dict[Any, float] | None) -> str | None:
    """Return a text as it is, or {class: number} as the setting is written: `CLASS=NUMBER,CLASS=NUMBER`."""
    if not isinstance(given, dict):
        return given
    labels = [label.item() if isinstance(label, np.generic) else label for label in given]
    pairs = zip(labels, given.values(), strict=True)
    return ",".join(f"{class_text(_label(label))}={float(weight)!r}" for label, weight in pairs)


def constraints_of(given: Any, names: list[str]) -> dict[str, tuple[str, ...]]:
    """Return scikit-learn's `monotonic_cst`, a dict by name or one number for each of the columns `names`, as settings.

    Raises ValueError for an unknown name, another number of columns, and for what is not 1, 0 or -1.
    """
    if given is None:
        return {}
    if isinstance(given, dict):
        by_name = {str(name): direction for name, direction in given.items()}
        unknown = [name for name in by_name if name not in names]
        if unknown:
            raise ValueError(
                f"monotonic_cst names {unknown[0]!r}, but there is no such column.{nearest(unknown[0], names)}"
            )
    else:
        if np.shape(given) != (len(names),):
            raise ValueError(
                f"monotonic_cst has shape {np.shape(given)} for {len(names)} columns: give a dict by name, or one of 1, 0 and -1 for each column."
            )
        by_name = dict(zip(names, np.asarray(given).tolist(), strict=True))
    for name, direction in by_name.items():
        if direction not in (1, 0, -1):
            raise ValueError(
                f"monotonic_cst is {direction!r} for {name!r}: use 1 (increasing), -1 (decreasing) or 0 (neither)."
            )
    flags = {"increasing": 1, "decreasing": -1}
    chosen = {flag: tuple(name for name, each in by_name.items() if each == way) for flag, way in flags.items()}
    return {flag: columns for flag, columns in chosen.items() if columns}


def encode(signature: Signature, rows: Any) -> Arrays:
    """Return the graph's inputs for a data frame or an Arrow table, by the types of the fit.

    The rules are those of the service: what the exported bundle refuses, a missing value where training saw none among
    it, raises TableError with the row and the feature.
    """
    try:
        return arrays_of(Encoder(signature), rows)
    except ServiceError as error:
        raise TableError(error.message) from error


def _label(value: Any) -> ClassLabel:
    if isinstance(value, float):
        return int(value) if value.is_integer() else repr(value)
    return value if isinstance(value, str | bool | int) else str(value)
