"""Test metrics with bootstrap intervals: of the served graph, a linear model and a constant."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from batchproof.service.features.arrays import Outputs
from batchproof.training.data.dataset import Dataset
from batchproof.training.evaluation import metrics
from batchproof.training.evaluation.comparison import CONSTANT, LINEAR

RESAMPLES = 400
RESAMPLED_ROWS = 5_000  # most rows of one resample
SEED = 7
MIDDLE = (0.025, 0.975)  # quantiles of the interval: 95 %


class Metric(NamedTuple):
    """A metric in two steps, so that a resample repeats only the second one."""

    of_rows: Callable[
        [np.ndarray, np.ndarray], np.ndarray
    ]  # answers [rows, ...], truth [rows, ...] -> values of each row
    total: Callable[[np.ndarray, np.ndarray], float]  # these values [rows, ...], truth [rows, ...] -> metric


Entry = tuple[str, str, str, bool, Metric]  # key, name, unit, whether less is better, and the metric


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
    target: str = ""  # of several, the one that is measured; empty: all together


def scores(
    data: Dataset, outputs: Outputs, baselines: Mapping[str, np.ndarray], *, has_threshold: bool = False
) -> tuple[Score, ...]:
    """Score all methods on the same rows and resamples; `baselines` are `baseline_answers(data)`.

    Of several targets all are scored together, then each by itself.
    Where the bundle has a threshold, the accuracy of its labels stands with that, and not beside the baselines.
    """
    y = data.y(data.evaluation_part)
    random = np.random.default_rng(SEED)
    answers = {
        "This model": data.target.answers(outputs),
        "Linear model": baselines[LINEAR],
        "Constant": baselines[CONSTANT],
    }
    draws = random.integers(0, len(y), (RESAMPLES, min(len(y), RESAMPLED_ROWS)))
    entries = [entry for entry in _metrics(data) if not (has_threshold and entry[-1] is ACCURACY)]
    found = [_score(entry, answers, y, draws) for entry in entries]
    for place, name in enumerate(data.target.several):
        own = {method: answer[:, place] for method, answer in answers.items()}
        found += [replace(_score(entry, own, y[:, place], draws), target=name) for entry in VALUES]
    return tuple(found)


def _score(entry: Entry, answers: Mapping[str, np.ndarray], y: np.ndarray, draws: np.ndarray) -> Score:
    key, name, unit, is_loss, metric = entry
    measured = {method: _measured(metric, answer.astype(np.float64), y, draws) for method, answer in answers.items()}
    return Score(key, name, unit, is_loss, measured)


def _measured(metric: Metric, answers: np.ndarray, y: np.ndarray, draws: np.ndarray) -> Measured:
    """Measure on all rows and on resamples, whose spread is scaled to the number of all rows."""
    rows = metric.of_rows(answers, y)
    value = metric.total(rows, y)
    resampled = np.array([metric.total(rows[draw], y[draw]) for draw in draws])
    low, high = value + (np.nanquantile(resampled, MIDDLE) - value) * np.sqrt(draws.shape[1] / len(y))
    return Measured(value, float(low), float(high))


def _metrics(data: Dataset) -> list[Entry]:
    if data.target.classes is None:
        loss = metrics.loss_of(data.target)
        of_loss: Entry = (
            loss.key,
            loss.name[:1].upper() + loss.name[1:],
            "",
            True,
            Metric(loss.of_rows, lambda rows, _: loss.total(rows)),
        )
        if data.target.several:
            return [of_loss, ("r2", "R²", "mean of the targets", False, MEAN_R2)]
        return [*([] if loss.key == "rmse" else [of_loss]), *VALUES]
    entries: list[Entry] = [
        ("log_loss", "Log loss", "nats", True, LOG_LOSS),
        ("accuracy", "Accuracy", "", False, ACCURACY),
    ]
    if len(data.target.classes) == 2 and len(np.unique(data.y(data.evaluation_part))) == 2:
        entries.append(("auc", "AUC", "", False, AUC))
    return entries


def _mean(rows: np.ndarray, _: np.ndarray) -> float:
    return float(rows.mean())


def _squares(answers: np.ndarray, y: np.ndarray) -> np.ndarray:
    squares: np.ndarray = np.square(answers - y)
    return squares


def _r2(squares: np.ndarray, y: np.ndarray) -> float:
    spread = np.square(y - y.mean()).mean()
    return float(1.0 - squares.mean() / spread) if spread > 0 else float("nan")


def _mean_r2(squares: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean([_r2(*of_target) for of_target in zip(squares.T, y.T, strict=True)]))


def _auc(places: np.ndarray, y: np.ndarray) -> float:
    return metrics.auc_of_places(places, y == 1) if 0 < y.sum() < len(y) else float("nan")


MEAN_R2 = Metric(_squares, _mean_r2)
LOG_LOSS = Metric(metrics.log_losses, _mean)
ACCURACY = Metric(lambda answers, y: answers.argmax(axis=1) == y, _mean)
AUC = Metric(lambda answers, _: metrics.places_of(answers[:, 1]), _auc)
VALUES: tuple[Entry, ...] = (
    ("rmse", "RMSE", "in the target's unit", True, Metric(_squares, lambda squares, _: float(np.sqrt(squares.mean())))),
    ("mae", "MAE", "in the target's unit", True, Metric(lambda answers, y: np.abs(answers - y), _mean)),
    ("r2", "R²", "", False, Metric(_squares, _r2)),
)
