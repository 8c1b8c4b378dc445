"""Reasons why a test looks better than reality: features that leak the target, and test rows seen in training."""

from typing import NamedTuple

import numpy as np
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from batchproof.service.bundle.signature import Signature
from batchproof.service.features.arrays import Arrays
from batchproof.training.data.rows.split import Split
from batchproof.training.data.target import Target

TREE_ROWS = 20_000  # most training rows that a feature is tried on; several targets share them
LEAST_ROWS = 2_000  # of them for each target
KEYED_ROWS = 65_536  # rows whose keys are computed together: bounds the copies
LEAVES = 64
LEAKED = 0.99  # a feature that removes this share of a constant prediction's error leaks the target
RARE_SHARE = 0.05  # a class with a smaller share is reported
RARE_ROWS = 20  # and so is one with fewer training rows


class Leak(NamedTuple):
    """A feature that nearly equals the target."""

    feature: str
    removed: float  # share of a constant prediction's error (mistakes, or squared error) that the feature removes
    target: str = ""  # of several, the one that it nearly equals


class Findings(NamedTuple):
    """The findings of one table."""

    leaks: tuple[Leak, ...]
    duplicates: dict[str, int]  # part -> rows that equal a training row in every feature and in the target
    rare_classes: dict[str, int]  # class -> training rows

    def lines(self, split: Split) -> list[str]:
        """Return a warning for each finding, for people."""
        warnings = [
            f"warning: {leak.feature!r} removes {leak.removed:.1%} of the error{f' of {leak.target!r}' if leak.target else ''} by itself: will it be known when predictions are made?"
            for leak in self.leaks
        ]
        for part, count in self.duplicates.items():
            rows = len(getattr(split, part))
            if count:
                warnings.append(f"warning: {count} of {rows} {part} rows ({count / rows:.1%}) equal a training row.")
        for label, rows in self.rare_classes.items():
            warnings.append(
                f"warning: class {label!r} has {rows} of {len(split.train)} training rows: check its predictions separately."
            )
        return warnings


def find(signature: Signature, arrays: dict[str, Arrays], target: Target, split: Split) -> Findings:
    """Look for leaks, duplicates and rare classes; `arrays` and `split` have train, validation and test."""
    y = {part: target.y[getattr(split, part)] for part in Split._fields}
    return Findings(
        tuple(_leaks(signature, arrays, y, target)), _duplicates(arrays, y), _rare(y["train"], target.classes or ())
    )


def _leaks(signature: Signature, arrays: dict[str, Arrays], y: dict[str, np.ndarray], target: Target) -> list[Leak]:
    train, validation = arrays["train"], arrays["validation"]
    leaks = []
    for names, seen, held in (
        (signature.numeric, train.numeric, validation.numeric),
        (signature.categorical, train.categorical, validation.categorical),
    ):
        for column, feature in enumerate(names):
            assert seen is not None, "a signature's kind of feature has its array"
            assert held is not None, "a signature's kind of feature has its array"
            for place, name in enumerate(target.several or ("",)):
                of_train, of_held = (y[part][:, place] if name else y[part] for part in ("train", "validation"))
                is_classes = target.classes is not None
                most = max(LEAST_ROWS, TREE_ROWS // len(target.names))
                removed = _removed_share(seen[:, column], of_train, held[:, column], of_held, most, classes=is_classes)
                if removed >= LEAKED:
                    leaks.append(Leak(feature.name, removed, name))
    return leaks


def _removed_share(
    x: np.ndarray, y: np.ndarray, held_x: np.ndarray, held_y: np.ndarray, most: int = TREE_ROWS, *, classes: bool
) -> float:
    """Return the share of a constant prediction's error on held-out rows that a small tree on one column removes.

    The tree is grown on about `most` of the rows.
    """
    step = max(1, len(x) // most)
    x, y = x[::step].astype(np.float64), y[::step]
    # Trees compare and sum in float32: a column is scaled by a power of two, which changes no comparison.
    exponent = np.frexp(np.nanmax(np.abs(x), initial=0.0))[1]
    x, held_x = (np.clip(np.ldexp(values[:, None], -exponent), -2.0, 2.0) for values in (x, held_x.astype(np.float64)))
    leaf = max(3, len(x) // 1000)
    if classes:
        tree = DecisionTreeClassifier(max_leaf_nodes=LEAVES, min_samples_leaf=leaf, random_state=0).fit(x, y)
        wrong = float((tree.predict(held_x) != held_y).sum())
        constant = float((held_y != np.bincount(y).argmax()).sum())
    else:
        tree = DecisionTreeRegressor(max_leaf_nodes=LEAVES, min_samples_leaf=leaf, random_state=0).fit(x, y)
        wrong = float(np.square(tree.predict(held_x) - held_y).sum())
        constant = float(np.square(held_y - y.mean()).sum())
    return 1.0 - wrong / constant if constant > 0 else 0.0


def _duplicates(arrays: dict[str, Arrays], y: dict[str, np.ndarray]) -> dict[str, int]:
    keys = {part: _keys(arrays[part], y[part]) for part in Split._fields}  # 8 bytes a row, not a copy of every value
    return {part: int(np.isin(keys[part], keys["train"]).sum()) for part in ("validation", "test")}


def _keys(arrays: Arrays, y: np.ndarray) -> np.ndarray:
    """Return one 64-bit key for each row: equal rows have equal keys; two different rows share one with a chance of about 1 in 2^64."""
    keys = np.empty(len(y), np.uint64)
    for start in range(0, len(y), KEYED_ROWS):
        cut = slice(start, start + KEYED_ROWS)
        keys[cut] = _keys_of(arrays.take(cut), y[cut])
    return keys


def _keys_of(arrays: Arrays, y: np.ndarray) -> np.ndarray:
    parts = [array for array in (arrays.numeric, arrays.categorical) if array is not None]
    words = np.concatenate(
        [*(np.ascontiguousarray(part + 0).view(np.uint64) for part in parts), y.reshape(len(y), -1).view(np.uint64)],
        axis=1,
    )
    keys = np.zeros(len(y), np.uint64)
    for word in words.T:
        keys = (keys ^ word) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(29)
    return keys


def _rare(y: np.ndarray, classes: tuple[object, ...]) -> dict[str, int]:
    counts = np.bincount(y, minlength=len(classes)).tolist() if classes else []
    least = min(RARE_SHARE, 0.5 / max(1, len(classes))) * len(y)
    return {
        str(label): count for label, count in zip(classes, counts, strict=False) if count < least or count < RARE_ROWS
    }
