"""Golden rows: synthetic rows, and the bits of the exported graph's outputs for them.

Each feature is drawn independently from its marginal distribution in training, missing and unseen values too, so that
no row is a real record; numbers are interpolated between quantiles.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from batchproof.service.bundle.signature import Feature, Signature, class_text
from batchproof.training.data.column import Column

MISSING_SHARE = 0.1  # of golden values, where the feature accepts null: enough to use that path
UNSEEN_SHARE = 0.05  # of golden values of a categorical feature
DIGITS = 6  # significant digits of a drawn number


def draw(signature: Signature, columns: Iterable[Column], train: np.ndarray, rows: int, seed: int) -> list[list[Any]]:
    """Return `rows` rows of JSON values in signature order; `train` numbers the training rows."""
    random = np.random.default_rng([seed, 1])
    by_name = {column.name: column for column in columns}
    drawn = [_feature(feature, by_name[feature.name].take(train), rows, random) for feature in signature.inputs]
    return [list(row) for row in zip(*drawn, strict=True)]


def serialise(rows: list[list[Any]], outputs: Mapping[str, np.ndarray]) -> bytes:
    """Return golden.json: the rows, and every output as little-endian bytes in hex."""
    stored = {
        name: {"dtype": str(array.dtype), "shape": list(array.shape), "hex": _little_endian(array).hex()}
        for name, array in outputs.items()
    }
    return (json.dumps({"rows": rows, "outputs": stored}, allow_nan=False) + "\n").encode()


def _feature(feature: Feature, seen: Column, rows: int, random: np.random.Generator) -> list[Any]:
    present = seen.values[~seen.is_missing]
    if feature.kind == "categorical":
        values = _categories(feature, present, seen, rows, random)
    else:
        values = _numbers(feature, present, rows, random)
    missing = random.random(rows) < (MISSING_SHARE if feature.missing else 0.0)
    return [None if is_missing else value for value, is_missing in zip(values, missing, strict=True)]


def _categories(
    feature: Feature, present: np.ndarray, seen: Column, rows: int, random: np.random.Generator
) -> list[Any]:
    listed = set(feature.categories or ())
    places = [place for place, level in enumerate(seen.levels) if class_text(level) in listed]
    counts = np.bincount(present, minlength=len(seen.levels))[places]
    chosen = random.choice(places, rows, p=counts / counts.sum())
    unseen = random.random(rows) < UNSEEN_SHARE
    new = _unseen(feature)
    return [new if is_unseen else seen.levels[place] for place, is_unseen in zip(chosen.tolist(), unseen, strict=True)]


def _unseen(feature: Feature) -> Any:
    """Return a value of the feature's type that is not one of its categories."""
    categories = feature.categories or ()
    if feature.value_type == "integer":
        return max(int(category) for category in categories) + 1
    if feature.value_type == "boolean":
        return categories[0] == "true"  # if both are listed there is no other value
    name = "unseen"
    while name in categories:
        name += "_"
    return name


def _numbers(feature: Feature, present: np.ndarray, rows: int, random: np.random.Generator) -> list[Any]:
    if not len(present):
        return [0.0] * rows
    drawn = np.quantile(present, random.random(rows))
    if feature.value_type == "boolean":
        return [bool(value > 0.5) for value in drawn]
    if feature.value_type == "integer":
        return [int(value) for value in np.rint(drawn)]
    if feature.kind == "date":
        return [str(np.datetime64(int(value), "s")) + "Z" for value in np.rint(drawn)]
    return [float(f"{value:.{DIGITS}g}") for value in drawn.tolist()]


def _little_endian(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
