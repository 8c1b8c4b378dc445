"""Permutation importance of the served graph, and partial dependence on the most important features.

Importance (Breiman, 2001; Fisher, Rudin, Dominici, 2019): how much the loss increases when one feature's values are
shuffled over the rows. Dependence (Friedman, 2001): the mean prediction with one feature set to each value of a grid.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from batchproof.service.bundle.signature import Feature
from batchproof.service.features.arrays import Arrays, Outputs
from batchproof.training.data.dataset import Dataset
from batchproof.training.evaluation import metrics

ROWS = 1_000  # evaluation rows at most
REPEATS = 3
CELLS = 2_000_000  # most rows times features to run: wide tables get fewer rows
TOP = 5  # features whose dependence is shown
GRID = 25
GRID_ROWS = 200
SHOWN_CLASSES = 4
SHOWN_TARGETS = 4
REACH = (0.05, 0.95)  # quantiles between which a numeric feature is varied

Run = Callable[[Arrays], Outputs]


class Importance(NamedTuple):
    """The increase of the loss: mean and standard deviation over the repeats."""

    feature: str
    rise: float
    spread: float


class Dependence(NamedTuple):
    """The mean predictions over a grid of one feature's values."""

    feature: Feature
    grid: np.ndarray  # [points] values, or category codes
    labels: tuple[str, ...]  # of categories; empty for numbers
    answers: (
        np.ndarray
    )  # [points, lines] mean probability of each shown class, mean value, or that of each shown target
    lines: tuple[str, ...]  # what each line is


def importances(data: Dataset, run: Run) -> tuple[Importance, ...]:
    """Permute each feature over a sample of the evaluation rows; the largest increase comes first."""
    arrays, y = _sample(data, max(50, min(ROWS, CELLS // (REPEATS * len(data.signature.inputs) ** 2))))
    base = _loss(data, run(arrays), y)
    random = np.random.default_rng(11)
    orders = [random.permutation(len(y)) for _ in range(REPEATS)]
    importances = []
    for feature in data.signature.inputs:
        values = _column(data, arrays, feature)
        rises = [_loss(data, run(_with(data, arrays, feature, values[order])), y) - base for order in orders]
        importances.append(Importance(feature.name, float(np.mean(rises)), float(np.std(rises))))
    return tuple(sorted(importances, key=lambda importance: -importance.rise))


def dependences(data: Dataset, run: Run, ranked: Sequence[Importance]) -> tuple[Dependence, ...]:
    """Return the dependence on each of the most important features."""
    by_name = {feature.name: feature for feature in data.signature.inputs}
    arrays, _ = _sample(data, GRID_ROWS)
    return tuple(_dependence(data, run, arrays, by_name[importance.feature]) for importance in ranked[:TOP])


def _dependence(data: Dataset, run: Run, arrays: Arrays, feature: Feature) -> Dependence:
    grid, labels = _grid(data, feature)
    shown = _shown_classes(data)
    rows = len(_column(data, arrays, feature))
    answers = []
    for value in grid:
        outputs = run(_with(data, arrays, feature, np.full(rows, value)))
        answers.append(_mean_values(data, outputs) if shown is None else outputs["probabilities"].mean(axis=0)[shown])
    names = data.target.names[:SHOWN_TARGETS]
    if shown is not None:
        names = tuple(str((data.target.classes or ())[place]) for place in shown)
    return Dependence(feature, grid, labels, np.stack(answers).astype(np.float64), names)


def _mean_values(data: Dataset, outputs: Outputs) -> np.ndarray:
    """Return the mean value [1], or of the first targets [targets] in standard deviations from the mean of the training rows."""
    means: np.ndarray = outputs["value"].mean(axis=0)
    if not data.target.several:
        return means
    standardised = (means - data.y("train").mean(axis=0)) / np.asarray(data.target.scales)
    return np.asarray(standardised[:SHOWN_TARGETS])


def _grid(data: Dataset, feature: Feature) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return evenly spaced values, or the codes and names of the most frequent categories."""
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
    """Return the classes that get a line: the second of two, else the most frequent; None for a regression."""
    if data.target.classes is None:
        return None
    if len(data.target.classes) == 2:
        return [1]
    counts = np.bincount(data.y("train"), minlength=len(data.target.classes))
    return sorted(np.argsort(-counts, kind="stable")[:SHOWN_CLASSES].tolist())


def _sample(data: Dataset, most: int) -> tuple[Arrays, np.ndarray]:
    y = data.y(data.evaluation_part)
    rows = np.random.default_rng(5).permutation(len(y))[:most]
    return data.arrays[data.evaluation_part].take(rows), y[rows]


def _loss(data: Dataset, outputs: Outputs, y: np.ndarray) -> float:
    if data.target.classes is None:
        loss = metrics.loss_of(data.target)
        if data.target.several:
            return loss.total(loss.of_rows(outputs["value"], y))
        return float(np.sqrt(np.square(outputs["value"][:, 0] - y).mean()))
    return metrics.log_loss(outputs["probabilities"].astype(np.float64), y)


def _place(data: Dataset, feature: Feature) -> int:
    kinds = data.signature.categorical if feature.kind == "categorical" else data.signature.numeric
    return [column.name for column in kinds].index(feature.name)


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
