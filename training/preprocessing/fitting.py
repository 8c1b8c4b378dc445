"""Fit the encodings of a table to its training rows."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np

from batchproof.service.features.arrays import Arrays
from batchproof.training.preprocessing.categories import onehot
from batchproof.training.preprocessing.numbers import calendar, periodic, piecewise, scaling
from batchproof.training.preprocessing.numbers.periodic import Periodic
from batchproof.training.preprocessing.numbers.piecewise import Piecewise
from batchproof.training.preprocessing.numbers.scaling import Scaling
from batchproof.training.preprocessing.preprocess import Preprocess

LEAST_BINS = 8  # of a numeric column, for any number of columns
CALENDAR_BINS = 24  # most bins of a calendar part: what recurs is coarser, and more bins fit the noise of other dates
Fields = TypeVar("Fields", Scaling, Piecewise)


@dataclass(frozen=True)
class Encoding:
    """Which encodings are built, and how finely."""

    edges: str | None = "distinct"  # piecewise-linear edges: "quantile", "distinct", "tree", or None for no bins
    bins: int = 48  # most bins of a numeric column
    width: int = 640  # most piecewise-linear columns in total: each column gets fewer bins to fit
    waves: bool = False  # periodic features of the scaled values
    calendar: bool = True  # time of day, day of the week and day of the year of dates
    onehot_codes: int = 8  # categorical columns with more codes than this are embedded by the network


def fit(
    raw: Arrays,
    target: np.ndarray,
    *,
    classes: bool,
    encoding: Encoding,
    ordered: np.ndarray | None = None,
    dates: Sequence[int] = (),
) -> Preprocess:
    """Fit the encodings on training rows only.

    target [rows] is class codes where `classes`, else float64 values, [rows, targets] of several; the edges of "tree" depend on it.
    `ordered` [n] int64 are the numeric columns whose encoding keeps their order, `dates` those that are seconds since 1970.
    """
    numeric, categorical = raw
    ordered = np.zeros(0, np.int64) if ordered is None else ordered
    hot, embedded = ([], []) if categorical is None else split_categorical(categorical, encoding, alone=numeric is None)
    common: dict[str, Any] = {
        "categorical": 0 if categorical is None else categorical.shape[1],
        "embedded": np.asarray(embedded, np.int64),
        "onehot": onehot.fit(categorical, hot) if categorical is not None and hot else None,
        "ordered": ordered,
    }
    if numeric is None:
        return Preprocess(fill=np.zeros(0), missing=np.zeros(0, np.int64), **common)
    wanted = np.setdiff1d(np.asarray(dates, np.int64), ordered) if encoding.calendar else ()
    parts = calendar.fit(numeric, wanted)
    blocks = [numeric] if parts is None else itertools.chain([numeric], parts.columns_of(numeric))
    columns = numeric.shape[1] + (0 if parts is None else len(parts.column))
    scaled, bins = fit_numeric(blocks, columns, target, classes=classes, encoding=encoding)
    return Preprocess(
        fill=scaled.center[: numeric.shape[1]],
        missing=with_missing(numeric),
        scaling=scaled,
        piecewise=bins,
        periodic=fit_periodic(columns, ordered) if encoding.waves else None,
        calendar=parts,
        **common,
    )


def with_missing(numeric: np.ndarray) -> np.ndarray:
    """Return the numbers of the columns of `numeric` [rows, columns] float64 that have a NaN [n] int64."""
    return np.flatnonzero([np.isnan(column).any() for column in numeric.T])


def fit_numeric(
    blocks: Iterable[np.ndarray], columns: int, target: np.ndarray, *, classes: bool, encoding: Encoding
) -> tuple[Scaling, Piecewise | None]:
    """Fit scaling and bins, as many for each column as the width allows, to `blocks` [rows, ..] that have all `columns` together.

    The first block holds the table's own columns, the others are calendar parts.
    """
    most, start = int(np.clip(encoding.width // columns, LEAST_BINS, encoding.bins)), 0
    scaled: list[Scaling] = []
    bins: list[Piecewise] = []
    for block in blocks:
        scaled.append(scaling.fit(block))
        if encoding.edges is not None:
            fitted = piecewise.fit(block, target, classes=classes, bins=most, edges=encoding.edges)
            bins.append(replace(fitted, column=start + fitted.column))
        most, start = min(most, CALENDAR_BINS), start + block.shape[1]
    return joined_fields(scaled), joined_fields(bins) if any(len(each.column) for each in bins) else None


def joined_fields(parts: list[Fields]) -> Fields:
    """Return the parts, dataclasses of arrays, as one."""
    return type(parts[0])(
        *(np.concatenate([getattr(part, entry.name) for part in parts]) for entry in fields(parts[0]))
    )


def fit_periodic(columns: int, ordered: np.ndarray) -> Periodic | None:
    """Give every numeric column waves, except those that keep their order; None where no other is left."""
    waving = np.setdiff1d(np.arange(columns), ordered)
    return periodic.fit(waving) if len(waving) else None


def split_categorical(categorical: np.ndarray, encoding: Encoding, *, alone: bool) -> tuple[list[int], list[int]]:
    """Return the columns to encode one-hot and those to embed.

    Without numeric columns (`alone`), the column with the fewest codes is always one-hot, so that x has a column.
    """
    codes = [len(np.unique(column)) for column in categorical.T]
    hot = [index for index, count in enumerate(codes) if count <= encoding.onehot_codes]
    if alone and not hot:
        hot = [int(np.argmin(codes))]
    return hot, [index for index in range(len(codes)) if index not in hot]
