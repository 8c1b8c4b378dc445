"""Test metrics with bootstrap intervals, of the served graph and of what is simpler: a constant, a linear model."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from batchproof.training.data.dataset import Dataset
from batchproof.training.data.split import Split
from batchproof.training.evaluation import baselines, metrics

RESAMPLES = 400
RESAMPLED_ROWS = 5_000  # of a resample at most
LINEAR_ROWS = 10_000  # training rows of the linear model at most
SEED = 7
MIDDLE = (0.025, 0.975)  # quantiles of the interval: 95 %

Metric = Callable[[np.ndarray, np.ndarray], float]  # answers [rows, ...], truth [rows] -> metric


class Measured(NamedTuple):
    """One method's metric."""

    value: float
    low: float  # the bootstrap's 95 % interval
    high: float


@dataclass(frozen=True)
class Score:
    """One metric of each method."""

    name: str
    unit: str
    is_loss: bool  # whether less is better
    methods: Mapping[str, Measured]  # "This model", then what it is held against


def scores(data: Dataset, outputs: Mapping[str, np.ndarray]) -> tuple[Score, ...]:
    """Score all methods on the same rows and the same resamples of them."""
    y = data.y(data.evaluation_part)
    random = np.random.default_rng(SEED)
    served = outputs["value"][:, 0] if data.target.classes is None else outputs["probabilities"]
    answers = {
        "This model": served,
        "Linear model": linear(data),
        "Constant": baselines.constant(_with_test_rows(data)),
    }
    draws = random.integers(0, len(y), (RESAMPLES, min(len(y), RESAMPLED_ROWS)))
    return tuple(
        Score(
            name,
            unit,
            is_loss,
            {method: _measured(metric, answer.astype(np.float64), y, draws) for method, answer in answers.items()},
        )
        for name, unit, is_loss, metric in _metrics(data)
    )


def linear(data: Dataset) -> np.ndarray:
    """Answer for the evaluation rows with a linear model of a sample of the training rows, in the classes' order."""
    sampled = _sampled(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it is held against may stop short of convergence
        return baselines.linear(sampled)


def _sampled(data: Dataset) -> Dataset:
    """Return the data with fewer training rows, but every class among them, and the evaluation rows as its test."""
    train = data.y("train")
    rows = np.random.default_rng(SEED).permutation(len(train))[:LINEAR_ROWS]
    if data.target.classes is not None:
        rows = np.union1d(rows, np.unique(train, return_index=True)[1])
    judged = _with_test_rows(data)
    few = type(data.arrays["train"])(*(None if array is None else array[rows] for array in data.arrays["train"]))
    return replace(
        judged,
        split=Split(data.split.train[rows], judged.split.validation, judged.split.test),
        arrays={**judged.arrays, "train": few},
    )


def _with_test_rows(data: Dataset) -> Dataset:
    """Return the data with the evaluation rows as its test rows."""
    return replace(
        data,
        split=data.split._replace(test=getattr(data.split, data.evaluation_part)),
        arrays={**data.arrays, "test": data.arrays[data.evaluation_part]},
    )


def _measured(metric: Metric, answers: np.ndarray, y: np.ndarray, draws: np.ndarray) -> Measured:
    """Measure on all rows, and resample; resamples of fewer rows than there are spread more by the root of the ratio."""
    value = metric(answers, y)
    found = np.array([metric(answers[draw], y[draw]) for draw in draws])
    low, high = value + (np.nanquantile(found, MIDDLE) - value) * np.sqrt(draws.shape[1] / len(y))
    return Measured(value, float(low), float(high))


def _metrics(data: Dataset) -> list[tuple[str, str, bool, Metric]]:
    if data.target.classes is None:
        return [
            ("RMSE", "in the target's unit", True, _rmse),
            ("MAE", "in the target's unit", True, _mae),
            ("R²", "", False, _r2),
        ]
    found: list[tuple[str, str, bool, Metric]] = [
        ("Log loss", "nats", True, metrics.log_loss),
        ("Accuracy", "", False, _accuracy),
    ]
    if len(data.target.classes) == 2 and len(np.unique(data.y(data.evaluation_part))) == 2:
        found.append(("AUC", "", False, _auc))
    return found


def _rmse(answers: np.ndarray, y: np.ndarray) -> float:
    return float(np.sqrt(np.square(answers - y).mean()))


def _mae(answers: np.ndarray, y: np.ndarray) -> float:
    return float(np.abs(answers - y).mean())


def _r2(answers: np.ndarray, y: np.ndarray) -> float:
    spread = np.square(y - y.mean()).mean()
    return float(1.0 - np.square(answers - y).mean() / spread) if spread > 0 else float("nan")


def _accuracy(answers: np.ndarray, y: np.ndarray) -> float:
    return float((answers.argmax(axis=1) == y).mean())


def _auc(answers: np.ndarray, y: np.ndarray) -> float:
    return metrics.auc(answers[:, 1], y == 1) if 0 < y.sum() < len(y) else float("nan")
