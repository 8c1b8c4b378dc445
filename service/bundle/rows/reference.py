"""Reference statistics: how often each range of values and each category occurred in training, for finding drift.

`reference.json` of a bundle holds counts of rows, never a row. Each feature, and the prediction, is a `Column` of cells:

* numbers, dates and predicted values: the intervals between `edges` (a value equal to an edge is below it), then missing;
* categories and predicted classes: the most frequent codes, then all other listed ones, missing, and unseen.

The file is untrusted input: `parse` raises BundleError for everything that is not as docs/bundle.md says.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from batchproof.service.bundle.files import strict_json
from batchproof.service.bundle.manifest import REFERENCE_FILE as FILE
from batchproof.service.bundle.manifest import Manifest
from batchproof.service.bundle.signature import Feature
from batchproof.service.errors import BundleError

MAX_SPLITS = 63  # the most edges, or codes, of one column
MAX_CELLS = 8192  # of one bundle: what a worker counts in and writes once a second is bounded
MAX_ROWS = 1 << 53
FIELDS = frozenset({"rows", "rare_rows", "features", "predictions"})


@dataclass(frozen=True, eq=False)
class Column:
    """How many training rows fell into each cell of one feature, or of the prediction."""

    counts: np.ndarray  # [cells] int64
    edges: np.ndarray | None  # [splits] float64, ascending; None for codes
    codes: np.ndarray | None  # [splits] int64, ascending; None for numbers
    categories: int = 0  # how many codes are listed in the signature

    @property
    def missing_cell(self) -> int:
        """The place of missing values among the cells."""
        return len(self.counts) - (1 if self.codes is None else 2)

    @property
    def unseen_cell(self) -> int:
        """The place of unseen categories; only where the column has codes."""
        return len(self.counts) - 1

    @cached_property
    def _cell_of_code(self) -> np.ndarray:
        """The cell of each code [categories + 2] int64."""
        assert self.codes is not None, "numbers have no codes"
        cells = np.full(self.categories + 2, len(self.codes), np.int64)
        cells[self.codes] = np.arange(len(self.codes))
        cells[self.categories :] = (self.missing_cell, self.unseen_cell)
        return cells

    def cells(self, values: np.ndarray) -> np.ndarray:
        """Return the cell of each value [rows] int64, for float64 numbers with NaN where missing, or for codes."""
        if self.edges is None:
            return np.asarray(self._cell_of_code[values])
        places = np.searchsorted(self.edges, values, side="left")
        places[np.isnan(values)] = self.missing_cell
        return places

    def count(self, values: np.ndarray) -> np.ndarray:
        """Return how many of the values [rows] fall into each cell, [cells] int64."""
        return np.bincount(self.cells(values), minlength=len(self.counts))


@dataclass(frozen=True)
class Reference:
    """The statistics of the rows that a model was trained on, and of what it predicts for rows it did not learn from."""

    rows: int
    rare_rows: int  # categories of at most so many training rows count as unseen
    features: tuple[Column | None, ...]  # in signature order; None where there was no room for one
    predictions: tuple[Column, ...]  # of the winning class or of each target's value; none where none were counted

    @cached_property
    def cell_count(self) -> int:
        """How many cells all columns have."""
        return sum(len(column.counts) for column in (*self.features, *self.predictions) if column is not None)


def column_for(feature: Feature, counts: np.ndarray, splits: np.ndarray) -> Column:
    """Return the column of a feature; `splits` are edges or codes."""
    if feature.kind == "categorical":
        return Column(counts, None, splits, len(feature.categories or ()))
    return Column(counts, splits, None)


def parse(raw: bytes, manifest: Manifest) -> Reference:
    """Read reference.json against the manifest; raises BundleError naming the field that is wrong."""
    try:
        content = strict_json.loads(raw)
    except ValueError as error:
        raise BundleError(f"{FILE} {error}") from error
    if not isinstance(content, dict) or set(content) != FIELDS:
        raise BundleError(f"{FILE} must be an object with exactly the fields {', '.join(sorted(FIELDS))}")
    rows, rare_rows = (_whole(content[name], name, 1) for name in ("rows", "rare_rows"))
    inputs, stored = manifest.signature.inputs, content["features"]
    if not isinstance(stored, list) or len(stored) != len(inputs):
        raise BundleError(f"{FILE} features must be a list of {len(inputs)} entries, one for each feature")
    features = tuple(
        None if entry is None else _feature(entry, feature, f"features.{place}", rows)
        for place, (feature, entry) in enumerate(zip(inputs, stored, strict=True))
    )
    reference = Reference(rows, rare_rows, features, _predictions(content["predictions"], manifest))
    if reference.cell_count > MAX_CELLS:
        raise BundleError(f"{FILE} has {reference.cell_count} counts; at most {MAX_CELLS} are read")
    return reference


def _feature(entry: Any, feature: Feature, field: str, rows: int) -> Column:
    categories = len(feature.categories) if feature.categories is not None else None
    column = _column(entry, field, rows, categories)
    if not feature.missing and column.counts[column.missing_cell]:
        raise BundleError(f"{FILE} {field}.counts has missing values of a feature that is never missing")
    return column


def _predictions(entry: Any, manifest: Manifest) -> tuple[Column, ...]:
    if entry is None:
        return ()
    if not isinstance(entry, dict) or "rows" not in entry:
        raise BundleError(f"{FILE} predictions must be null or an object with the field rows")
    rows = _whole(entry["rows"], "predictions.rows", 1)
    rest = {name: value for name, value in entry.items() if name != "rows"}
    targets, classes = manifest.signature.targets, manifest.signature.classes
    if targets is None:
        return (_column(rest, "predictions", rows, None if classes is None else len(classes)),)
    each = rest.get("values")
    if set(rest) != {"values"} or not isinstance(each, list) or len(each) != len(targets):
        raise BundleError(f"{FILE} predictions.values must be a list of {len(targets)} entries, one for each target")
    return tuple(_column(one, f"predictions.values.{place}", rows, None) for place, one in enumerate(each))


def _column(entry: Any, field: str, rows: int, categories: int | None) -> Column:
    name = "edges" if categories is None else "codes"
    if not isinstance(entry, dict) or set(entry) != {name, "counts"}:
        raise BundleError(f"{FILE} {field} must be an object with exactly the fields {name} and counts")
    splits = entry[name]
    if not isinstance(splits, list) or len(splits) > MAX_SPLITS or not _ascends(splits, categories):
        kind = "finite numbers" if categories is None else f"whole numbers below {categories}"
        raise BundleError(f"{FILE} {field}.{name} must be a list of at most {MAX_SPLITS} ascending {kind}")
    cells = len(splits) + (2 if categories is None else 3)
    counts = entry["counts"]
    if not isinstance(counts, list) or len(counts) != cells:
        raise BundleError(f"{FILE} {field}.counts must be a list of {cells} whole numbers")
    total = sum(_whole(count, f"{field}.counts", 0) for count in counts)
    if total != rows:
        raise BundleError(f"{FILE} {field}.counts has {total} rows in all, but there are {rows}")
    if categories is None:
        return Column(np.array(counts, np.int64), np.array(splits, np.float64), None)
    return Column(np.array(counts, np.int64), None, np.array(splits, np.int64), categories)


def _ascends(splits: list[Any], categories: int | None) -> bool:
    if categories is None:
        fits = all(type(one) in (int, float) for one in splits)  # strict JSON has no other numbers than finite ones
        splits = [float(one) for one in splits] if fits else splits
    else:
        fits = all(type(one) is int and 0 <= one < categories for one in splits)
    return fits and all(low < high for low, high in pairwise(splits))


def _whole(value: Any, field: str, least: int) -> int:
    if type(value) is not int or not least <= value <= MAX_ROWS:
        raise BundleError(f"{FILE} {field} must hold whole numbers from {least} to 2^53")
    return value
