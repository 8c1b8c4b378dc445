"""The reference statistics of a bundle: counts of the encoded training rows, and of the model's own predictions.

What a fresh row is compared with must be what training rows would look like to a model that had not seen them. So the
predictions counted are those for rows that were not learned from, and a category counts as listed only where it would
be listed without the row at hand: one that occurs in exactly `rare_rows` training rows counts as unseen. Otherwise
categories that chance lifted over that bound would make fresh rows look as if more of them were unseen (the
leave-one-out argument of Good, Biometrika 40, 1953).
"""

import json
from typing import Any

import numpy as np

from batchproof.service.bundle.rows.reference import MAX_CELLS, MAX_SPLITS, Column
from batchproof.service.bundle.signature import Feature, Signature
from batchproof.service.features.arrays import Arrays, Outputs

INTERVALS = 10  # of numbers, dates and predicted values: equal shares of the rows, as far as ties allow
CODES = 50  # categories, or classes, with a cell of their own: the most frequent ones
FREQUENT = 10  # times `rare_rows`: categories of fewer rows share a cell, since chance decides which of them are listed


def serialise(signature: Signature, train: Arrays, outputs: Outputs, rare_rows: int) -> bytes:
    """Return reference.json for the training rows and for the outputs of rows that were not learned from."""
    content = {
        "rows": next(len(array) for array in train if array is not None),
        "rare_rows": rare_rows,
        "predictions": prediction_entry(signature, outputs),
        "features": feature_entries(signature, train, rare_rows),
    }
    return (json.dumps(content, allow_nan=False) + "\n").encode()


def feature_entries(signature: Signature, train: Arrays, rare_rows: int) -> list[dict[str, Any] | None]:
    """Return the entry of each feature in signature order; null from where MAX_CELLS are used up."""
    columns = {"number": iter(range(len(signature.numeric))), "code": iter(range(len(signature.categorical)))}
    entries: list[dict[str, Any] | None] = []
    further = len(signature.target_names) - 1
    # Less what the predictions may take: of several targets, further ones take an interval each, and missing values.
    room = MAX_CELLS - MAX_SPLITS - 3 - further * (INTERVALS + 2)
    for feature in signature.inputs:
        if feature.kind == "categorical":
            assert train.categorical is not None, "the signature has a categorical feature"
            entry = _codes(feature, train.categorical[:, next(columns["code"])], rare_rows)
        else:
            assert train.numeric is not None, "the signature has a number or a date"
            entry = _numbers(train.numeric[:, next(columns["number"])])
        room -= len(entry["counts"])
        entries.append(entry if room >= 0 else None)
    return entries


def prediction_entry(signature: Signature, outputs: Outputs) -> dict[str, Any] | None:
    """Return the entry of the predictions; None where there is no row."""
    rows = len(next(iter(outputs.values()))) if outputs else 0
    if not rows:
        return None
    if signature.targets is not None:
        return {"rows": rows, "values": [_numbers(values) for values in outputs["value"].T.astype(np.float64)]}
    if signature.classes is None:
        return {"rows": rows, **_numbers(outputs["value"][:, 0].astype(np.float64))}
    classes = len(signature.classes)
    labels = outputs["probabilities"].argmax(axis=1)
    return {"rows": rows, **_frequent(labels, np.bincount(labels, minlength=classes), classes)}


def _numbers(values: np.ndarray) -> dict[str, Any]:
    present = values[~np.isnan(values)]
    edges = np.zeros(0)
    if len(present):
        edges = np.unique(present)  # few distinct values: each has an interval of its own, however rare it is
        if len(edges) > INTERVALS:
            shares = np.arange(1, INTERVALS) / INTERVALS
            edges = np.unique(np.quantile(present, shares, method="lower"))
        edges = edges[edges < present.max()] + 0.0  # without the sign of zero
    column = Column(np.zeros(len(edges) + 2, np.int64), edges, None)
    return {"edges": edges.tolist(), "counts": column.count(values).tolist()}


def _codes(feature: Feature, codes: np.ndarray, rare_rows: int) -> dict[str, Any]:
    counts = np.bincount(codes, minlength=feature.code_count)
    is_rare = counts <= rare_rows
    is_rare[feature.missing_code] = False
    seen = np.where(is_rare[codes], feature.unseen_code, codes)
    frequent = np.where(counts >= FREQUENT * rare_rows, counts, 0)[: feature.missing_code]
    return _frequent(seen, frequent, feature.missing_code)


def _frequent(codes: np.ndarray, counts: np.ndarray, categories: int) -> dict[str, Any]:
    """Return cells for the most frequent of the listed codes; of equally frequent ones, for the first."""
    order = np.argsort(-counts, kind="stable")[:CODES]
    splits = np.sort(order[counts[order] > 0])
    column = Column(np.zeros(len(splits) + 3, np.int64), None, splits, categories)
    return {"codes": splits.tolist(), "counts": column.count(codes).tolist()}
