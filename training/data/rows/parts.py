"""The part of each row, as the settings ask: drawn by class, by group or by time, or as a column or a test file says."""

import numpy as np

from batchproof.training.data.rows import group_split, time_split
from batchproof.training.data.rows.keys import SplitKeys
from batchproof.training.data.rows.split import MIN_ROWS, Split, draw, named
from batchproof.training.data.tables.table import RawTable
from batchproof.training.data.tables.table_error import TableError
from batchproof.training.data.target import Target
from batchproof.training.settings import Settings


def split_rows(table: RawTable, target: Target, settings: Settings, own_rows: int, keys: SplitKeys | None) -> Split:
    """Split the rows as the settings ask; rows from number `own_rows` on are those of a test file.

    Raises TableError where a part would have too few rows, or a class no training row.
    """
    split = _split(table, target, settings, own_rows, keys)
    check_classes(target, split)
    return split


def check_classes(target: Target, split: Split) -> None:
    """Raise TableError for a class without a training row."""
    if target.classes is not None:
        for code in np.setdiff1d(target.y, target.y[split.train]).tolist():
            raise TableError(f"class {target.classes[code]!r} is in no training row: it cannot be learnt.")


def drawn(
    strata: np.ndarray, keys: SplitKeys | None, seed: int, shares: tuple[float, float], least_rows: int = MIN_ROWS
) -> Split:
    """Split len(strata) rows by their keys, or by class; `shares` are those of validation and test."""
    if keys is None:
        return draw(strata, seed, *shares, least_rows)
    if keys.kind == "group":
        return group_split.draw_groups(keys.values, strata, seed, shares, least_rows)
    return time_split.draw_times(keys.values, shares, keys.column, least_rows)


def _split(table: RawTable, target: Target, settings: Settings, own_rows: int, keys: SplitKeys | None) -> Split:
    if settings.split_column is not None:
        labels = table.arrow.column(settings.split_column).to_pylist()
        return named(labels, settings.split_column, table.place)
    if own_rows == len(target.y):
        return drawn(target.strata, keys, settings.seed, (settings.validation_share, settings.test_share))
    own = None if keys is None else keys.take(np.arange(own_rows))
    split = drawn(target.strata[:own_rows], own, settings.seed, (settings.validation_share, 0.0))
    split = split._replace(test=np.arange(own_rows, len(target.y)))
    if keys is not None:
        check = group_split.check_apart if keys.kind == "group" else time_split.check_later
        check(keys.values, split, keys.column, table.place)
    return split
