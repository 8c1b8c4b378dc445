"""Data frames and arrays to the line's own table: columns by name, a goal, a split."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from batchproof.service.bundle.signature import ClassLabel, Feature, Signature, Task, class_text
from batchproof.service.features.arrays import Arrays
from batchproof.training.data import schema, split, table
from batchproof.training.data.columns import Column, typed
from batchproof.training.data.dataset import Dataset, arrange
from batchproof.training.data.table import TableError
from batchproof.training.data.target import MOST_CLASSES, Target, check_size
from batchproof.training.settings import Settings

LEAST_ROWS = 4  # two to train, one to validate, and one more so that a class can have two
NAME = "the data frame"


def is_frame(x: Any) -> bool:
    """Whether `x` is a data frame: pandas, polars, an Arrow table, anything that hands out Arrow columns."""
    return hasattr(x, "__arrow_c_stream__") or hasattr(x, "iloc")


def arrow_of(x: Any) -> pa.Table:
    """Return a data frame, or an array [rows, features] float64 with columns named x0, x1, …, as an Arrow table."""
    if isinstance(x, np.ndarray):
        return pa.table({f"x{column}": x[:, column] for column in range(x.shape[1])})
    found = pa.Table.from_pandas(x, preserve_index=False) if hasattr(x, "iloc") else pa.table(x)
    return found.replace_schema_metadata(None).rename_columns([str(name) for name in found.column_names])


def data_of(arrow: pa.Table, goal: Target, settings: Settings, weight: np.ndarray | None) -> Dataset:
    """Split the rows and arrange them to fit on; TableError in one sentence."""
    raw = table.held(arrow, NAME)
    parts = split.draw(goal.strata, settings.seed, settings.validation_share, settings.test_share, LEAST_ROWS)
    names = [name for name in raw.names if name not in settings.drop]
    return arrange(raw, names, goal, parts, settings, weight)


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


def values_of(y: np.ndarray, name: str) -> Target:
    """Return the goal of float64 values; ValueError where y is no number."""
    try:
        values = y.astype(np.float64)
    except (ValueError, TypeError) as error:
        raise ValueError("y holds text: a regressor takes numbers; BatchNormMLPClassifier takes classes.") from error
    if np.ptp(values / 2) > 0:  # scikit-learn's estimators take a constant
        check_size(name, values)
    return Target(name, "regression", values, None, "a regressor was asked for")


def encode(signature: Signature, arrow: pa.Table) -> Arrays:
    """Return the graph's inputs for new rows; TableError where a feature is absent or of another kind."""
    names: Sequence[str] = arrow.column_names
    for feature in signature.inputs:
        if feature.name not in names:
            raise TableError(f"{NAME} has no column {feature.name!r}: {table.nearest(feature.name, list(names))}")
    columns = [_column(feature, arrow.column(feature.name)) for feature in signature.inputs]
    return schema.encode(signature, columns, np.arange(arrow.num_rows))


def _column(feature: Feature, arrow: pa.ChunkedArray) -> Column:
    is_category = feature.kind == "categorical"
    missing = np.full(len(arrow), -1, np.int64) if is_category else np.full(len(arrow), np.nan)
    blank = Column(feature.name, feature.kind, feature.value_type, missing)
    if arrow.null_count == len(arrow) or (pa.types.is_floating(arrow.type) and arrow.to_pandas().isna().all()):
        return blank
    found = typed(feature.name, arrow, feature.kind)
    if found is None or found.kind != feature.kind:
        raise TableError(f"column {feature.name!r} holds {arrow.type} values, but was {feature.kind} in training.")
    return replace(found, value_type=feature.value_type)


def _label(value: Any) -> ClassLabel:
    if isinstance(value, float):
        return int(value) if value.is_integer() else repr(value)
    return value if isinstance(value, str | bool | int) else str(value)
