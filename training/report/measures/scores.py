"""Test metrics with bootstrap intervals: of the served graph, a linear model and a constant."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from batchproof.service.features.arrays import Outputs
from batchproof.training.data.dataset import Dataset
from batchproof.training.data.split import Split
from batchproof.training.evaluation import baselines, metrics

RESAMPLES = 400
RESAMPLED_ROWS = 5_000  # most rows of one resample
LINEAR_ROWS = 10_000  # most training rows of the linear model
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

    key: str  # in the metrics of bundle.json
    name: str
    unit: str
    is_loss: bool  # whether less is better
    methods: Mapping[str, Measured]  # "This model" first, then the baselines


def scores(data: Dataset, outputs: Outputs) -> tuple[Score, ...]:
    """Score all methods on the same rows and resamples."""
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
            key,
            name,
            unit,
            is_loss,
            {method: _measured(metric, answer.astype(np.float64), y, draws) for method, answer in answers.items()},
        )
        for key, name, unit, is_loss, metric in _metrics(data)
    )


def linear(data: Dataset) -> np.ndarray:
    """Predict the evaluation rows with a linear model that is fitted to a sample of the training rows."""
    sampled = _sampled(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a baseline may stop before it converges
        return baselines.linear(sampled)


def _sampled(data: Dataset) -> Dataset:
    """Return the data with fewer training rows, of every class, and with the evaluation rows as its test rows."""
    train = data.y("train")
    rows = np.random.default_rng(SEED).permutation(len(train))[:LINEAR_ROWS]
    if data.target.classes is not None:
        rows = np.union1d(rows, np.unique(train, return_index=True)[1])
    evaluated = _with_test_rows(data)
    few = data.arrays["train"].take(rows)
    return replace(
        evaluated,
        split=Split(data.split.train[rows], evaluated.split.validation, evaluated.split.test),
        arrays={**evaluated.arrays, "train": few},
    )


def _with_test_rows(data: Dataset) -> Dataset:
    """Return the data with the evaluation rows as its test rows."""
    return replace(
        data,
        split=data.split._replace(test=getattr(data.split, data.evaluation_part)),
        arrays={**data.arrays, "test": data.arrays[data.evaluation_part]},
    )


def _measured(metric: Metric, answers: np.ndarray, y: np.ndarray, draws: np.ndarray) -> Measured:
    """Measure on all rows and on resamples, whose spread is scaled to the number of all rows."""
    value = metric(answers, y)
    resampled = np.array([metric(answers[draw], y[draw]) for draw in draws])
    low, high = value + (np.nanquantile(resampled, MIDDLE) - value) * np.sqrt(draws.shape[1] / len(y))
    return Measured(value, float(low), float(high))


def _metrics(data: Dataset) -> list[tuple[str, str, str, bool, Metric]]:
    if data.target.classes is None:
        return [
            ("rmse", "RMSE", "in the target's unit", True, _rmse),
            ("mae", "MAE", "in the target's unit", True, _mae),
            ("r2", "R²", "", False, _r2),
        ]
    entries: list[tuple[str, str, str, bool, Metric]] = [
        ("log_loss", "Log loss", "nats", True, metrics.log_loss),
        ("accuracy", "Accuracy", "", False, _accuracy),
    ]
    if len(data.target.classes) == 2 and len(np.unique(data.y(data.evaluation_part))) == 2:
        entries.append(("auc", "AUC", "", False, _auc))
    return entries


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
