"""Rows counted into the cells of a bundle's reference statistics."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from batchproof.service.bundle.rows.reference import Reference
from batchproof.service.bundle.signature import Signature
from batchproof.service.features.arrays import Arrays, Outputs


class Layout:
    """Where each column's cells are in one row of numbers: the features in signature order, then the predictions."""

    def __init__(self, signature: Signature, reference: Reference) -> None:
        """Prepare the places and the column of each feature in its matrix."""
        self.signature = signature
        self.reference = reference
        self.places: list[slice | None] = []
        self.columns = [
            (feature.kind == "categorical", place)
            for feature, place in zip(signature.inputs, _places(signature), strict=True)
        ]
        start = 0
        for column in (*reference.features, *reference.predictions):
            size = 0 if column is None else len(column.counts)
            self.places.append(slice(start, start + size) if size else None)
            start += size

    @property
    def prediction_places(self) -> list[slice | None]:
        """The place of each prediction's cells."""
        return self.places[len(self.columns) :]

    def predicted(self, outputs: Outputs) -> list[np.ndarray]:
        """Return what of the outputs is counted, [rows] each: the winning class, or each target's value as float64."""
        if self.signature.classes is None:
            return list(outputs["value"].T.astype(np.float64))
        return [np.asarray(outputs["probabilities"].argmax(axis=1))]


def _places(signature: Signature) -> list[int]:
    """Return the place of each feature among those of its matrix."""
    used = {True: 0, False: 0}
    places = []
    for feature in signature.inputs:
        is_code = feature.kind == "categorical"
        places.append(used[is_code])
        used[is_code] += 1
    return places


class WindowCounts:
    """What rows of one window were counted into."""

    def __init__(self, layout: Layout) -> None:
        """Start at zero."""
        self.layout = layout
        self.rows = 0
        self.cells = np.zeros(layout.reference.cell_count, np.int64)
        self.outside = np.zeros(len(layout.signature.inputs), np.int64)  # values beyond the training range

    def add(self, other: "WindowCounts") -> None:
        """Add other counts of the same layout."""
        self.rows += other.rows
        self.cells += other.cells
        self.outside += other.outside

    def as_plain(self) -> dict[str, Any]:
        """Return the counts as plain data."""
        return {"rows": self.rows, "cells": self.cells.tolist(), "outside": self.outside.tolist()}


def counted(layout: Layout, plain: Mapping[str, Any]) -> WindowCounts:
    """Return the counts out of plain data, which other processes may have added up."""
    counts = WindowCounts(layout)
    counts.rows = plain["rows"]
    counts.cells[:] = plain["cells"]
    counts.outside[:] = plain["outside"]
    return counts


def count(layout: Layout, arrays: Arrays, outputs: Outputs | None) -> WindowCounts:
    """Count rows, feature by feature; without `outputs`, only what was asked and not what was answered."""
    counts = WindowCounts(layout)
    counts.rows = next(len(array) for array in arrays if array is not None)
    for place in range(len(layout.columns)):
        count_feature(counts, place, arrays)
    if outputs is not None:
        count_predictions(counts, outputs)
    return counts


def count_feature(counts: WindowCounts, place: int, arrays: Arrays) -> None:
    """Count the values of the feature at `place` of the signature."""
    layout = counts.layout
    column, cells = layout.reference.features[place], layout.places[place]
    if column is None or cells is None:
        return
    values = _values(layout, place, arrays)
    counts.cells[cells] += column.count(values)
    limits = layout.signature.inputs[place].range
    if limits is not None:
        counts.outside[place] += np.count_nonzero((values < limits[0]) | (values > limits[1]))


def count_predictions(counts: WindowCounts, outputs: Outputs) -> None:
    """Count what was predicted."""
    layout = counts.layout
    if not layout.reference.predictions:
        return
    found = zip(layout.reference.predictions, layout.prediction_places, layout.predicted(outputs), strict=True)
    for column, cells, values in found:
        if cells is not None:
            counts.cells[cells] += column.count(values)


def _values(layout: Layout, place: int, arrays: Arrays) -> np.ndarray:
    is_code, column = layout.columns[place]
    matrix = arrays.categorical if is_code else arrays.numeric
    assert matrix is not None, "a feature's matrix is there"
    return np.asarray(matrix[:, column])
