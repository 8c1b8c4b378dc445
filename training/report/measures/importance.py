"""What the served graph listens to: permutation importance, and partial dependence of the features that matter most.

Importance (Breiman, 2001; Fisher, Rudin, Dominici, 2019): how much the loss rises when one feature's values are dealt
to other rows. Dependence (Friedman, 2001): the mean answer when one feature is set to each of a grid of values.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from batchproof.service.bundle.signature import Feature
from batchproof.service.features.arrays import Arrays
from batchproof.training.data.dataset import Dataset
from batchproof.training.evaluation import metrics

ROWS = 1_000  # evaluation rows at most
REPEATS = 3
CELLS = 2_000_000  # rows times features that are run at most: wide tables get fewer rows
TOP = 5  # features whose dependence is shown
GRID = 25
GRID_ROWS = 200
SHOWN_CLASSES = 4
REACH = (0.05, 0.95)  # quantiles between which a numeric feature is varied

Run = Callable[[Arrays], Mapping[str, np.ndarray]]


class Importance(NamedTuple):
    """By how much the loss rises, mean and standard deviation over the repeats."""

    feature: str
    rise: float
    spread: float


class Dependence(NamedTuple):
    """The mean answer over a grid."""

    feature: Feature
    grid: np.ndarray  # [points] values, or category codes
    labels: tuple[str, ...]  # of categories; empty for numbers
    answers: np.ndarray  # [points, lines] mean probability of each shown class, or mean value
    lines: tuple[str, ...]  # what each line is


def importances(data: Dataset, run: Run) -> tuple[Importance, ...]:
    """Permute each feature over a sample of the evaluation rows, greatest rise first."""
    arrays, y = _sample(data, max(50, min(ROWS, CELLS // (REPEATS * len(data.signature.inputs) ** 2))))
    base = _loss(data, run(arrays), y)
    random = np.random.default_rng(11)
    orders = [random.permutation(len(y)) for _ in range(REPEATS)]
    found = []
    for feature in data.signature.inputs:
        values = _column(data, arrays, feature)
        rises = [_loss(data, run(_with(data, arrays, feature, values[order])), y) - base for order in orders]
        found.append(Importance(feature.name, float(np.mean(rises)), float(np.std(rises))))
    return tuple(sorted(found, key=lambda one: -one.rise))


def dependences(data: Dataset, run: Run, ranked: Sequence[Importance]) -> tuple[Dependence, ...]:
    """Return the dependence on each of the most important features."""
    by_name = {feature.name: feature for feature in data.signature.inputs}
    arrays, _ = _sample(data, GRID_ROWS)
    return tuple(_dependence(data, run, arrays, by_name[one.feature]) for one in ranked[:TOP])


def _dependence(data: Dataset, run: Run, arrays: Arrays, feature: Feature) -> Dependence:
    grid, labels = _grid(data, feature)
    shown = _shown_classes(data)
    rows = len(_column(data, arrays, feature))
    answers = []
    for value in grid:
        found = run(_with(data, arrays, feature, np.full(rows, value)))
        answers.append(found["value"].mean(axis=0) if shown is None else found["probabilities"].mean(axis=0)[shown])
    names = (data.target.name,) if shown is None else tuple(str((data.target.classes or ())[place]) for place in shown)
    return Dependence(feature, grid, labels, np.stack(answers).astype(np.float64), names)


def _grid(data: Dataset, feature: Feature) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return evenly spaced values, or the commonest categories with their names."""
    values = _column(data, data.arrays["train"], feature)
    if feature.kind == "categorical":
        names = feature.categories or ()
        counts = np.bincount(values.astype(np.int64), minlength=feature.code_count)[: feature.missing_code]
        codes = np.sort(np.argsort(-counts, kind="stable")[:GRID])
        return codes, tuple(names[code] for code in codes)
    present = values[~np.isnan(values)]
    low, high = np.quantile(present, REACH) if len(present) else (0.0, 1.0)
    if feature.value_type == "boolean":
        return np.array([0.0, 1.0]), ("false", "true")
    return np.linspace(low, high, GRID), ()


def _shown_classes(data: Dataset) -> list[int] | None:
    """Return which classes get a line: the second of two, else the commonest; None for values."""
    if data.target.classes is None:
        return None
    if len(data.target.classes) == 2:
        return [1]
    counts = np.bincount(data.y("train"), minlength=len(data.target.classes))
    return sorted(np.argsort(-counts, kind="stable")[:SHOWN_CLASSES].tolist())


def _sample(data: Dataset, most: int) -> tuple[Arrays, np.ndarray]:
    y = data.y(data.evaluation_part)
    rows = np.random.default_rng(5).permutation(len(y))[:most]
    return Arrays(*(None if array is None else array[rows] for array in data.arrays[data.evaluation_part])), y[rows]


def _loss(data: Dataset, outputs: Mapping[str, np.ndarray], y: np.ndarray) -> float:
    if data.target.classes is None:
        return float(np.sqrt(np.square(outputs["value"][:, 0] - y).mean()))
    return metrics.log_loss(outputs["probabilities"].astype(np.float64), y)


def _place(data: Dataset, feature: Feature) -> int:
    kinds = data.signature.categorical if feature.kind == "categorical" else data.signature.numeric
    return [one.name for one in kinds].index(feature.name)


def _column(data: Dataset, arrays: Arrays, feature: Feature) -> np.ndarray:
    array = arrays.categorical if feature.kind == "categorical" else arrays.numeric
    assert array is not None, "a feature has its kind of array"
    return array[:, _place(data, feature)]


def _with(data: Dataset, arrays: Arrays, feature: Feature, values: np.ndarray) -> Arrays:
    """Return the arrays with one feature's column replaced."""
    name = "categorical" if feature.kind == "categorical" else "numeric"
    changed = np.array(getattr(arrays, name))
    changed[:, _place(data, feature)] = values
    return arrays._replace(**{name: changed})
