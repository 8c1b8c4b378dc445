"""Metrics of predictions, compared with those of a constant prediction, and the loss that methods are compared by."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.special import xlogy

from batchproof.training.data.target import Target
from batchproof.training.network.fold import LEAST_VALUE

TINY = 1e-15  # least probability in a log loss: a mistake at probability 1 costs 34.5, not infinity


@dataclass(frozen=True)
class Loss:
    """What methods are compared by on held-out rows."""

    key: str  # in the metrics of bundle.json
    name: str  # for people
    of_rows: Callable[[np.ndarray, np.ndarray], np.ndarray]  # answers [rows, ...], truth [rows, ...] -> losses [rows]
    is_root: bool = False  # whether it is the root of the rows' mean

    def total(self, losses: np.ndarray, weight: np.ndarray | None = None) -> float:
        """Return the loss of all rows, given that of each [rows] and how much it counts [rows]; None: all alike."""
        mean = float(np.average(losses, weights=weight))
        return math.sqrt(mean) if self.is_root else mean


def loss_of(target: Target) -> Loss:
    """Return the loss of a target: log loss of probabilities [rows, classes], or what its objective asks of values [rows].

    That of several targets is the RMSE of values [rows, targets] in standard deviations, over all targets.
    """
    if target.several:
        return Loss("standardised_rmse", "standardised RMSE", partial(standardised_errors, target.scales), is_root=True)
    return LOG_LOSS if target.classes is not None else OF_VALUES[target.objective]


def classification(probabilities: np.ndarray, y: np.ndarray, prior: np.ndarray) -> dict[str, float]:
    """Return the metrics of probabilities [rows, classes] against class codes y [rows]; `prior` [classes] is the constant prediction."""
    p = probabilities.astype(np.float64)
    metrics = {
        "log_loss": log_loss(p, y),
        "accuracy": float((p.argmax(axis=1) == y).mean()),
        "constant_log_loss": log_loss(np.broadcast_to(prior, p.shape), y),
        "constant_accuracy": float((y == prior.argmax()).mean()),
    }
    if p.shape[1] == 2 and 0 < y.sum() < len(y):
        metrics["auc"] = auc(p[:, 1], y == 1)
    return metrics


def regression(values: np.ndarray, y: np.ndarray, mean: float, loss: Loss) -> dict[str, float]:
    """Return the metrics of values [rows] against y [rows], in the target's unit; `mean` is the constant prediction.

    `loss` is the target's; where it is a deviance, that is among them.
    """
    error = values.astype(np.float64) - y
    spread = float(np.square(y - y.mean()).mean())
    metrics = {
        "rmse": float(np.sqrt(np.square(error).mean())),
        "mae": float(np.abs(error).mean()),
        "constant_rmse": float(np.sqrt(np.square(y - mean).mean())),
    }
    if spread > 0:
        metrics["r2"] = 1.0 - float(np.square(error).mean()) / spread
    if loss.key not in metrics:
        constant = np.full(len(y), mean)
        measured = {"": values, "constant_": constant}
        metrics |= {f"{who}{loss.key}": loss.total(loss.of_rows(answer, y)) for who, answer in measured.items()}
    return metrics


def several(values: np.ndarray, y: np.ndarray, means: np.ndarray, target: Target) -> dict[str, Any]:
    """Return the metrics of values [rows, targets] against y, of each target as `regression` does; `means` [targets] are the constant one.

    `r2` is the mean of the targets' ones, `standardised_rmse` the root of the mean squared error in standard deviations.
    """
    loss = loss_of(target)
    measured = {"": values, "constant_": np.broadcast_to(means, y.shape)}
    each = {
        name: regression(values[:, place], y[:, place], float(means[place]), OF_VALUES["squared_error"])
        for place, name in enumerate(target.several)
    }
    r2 = [one["r2"] for one in each.values() if "r2" in one]
    return {
        **{f"{who}{loss.key}": loss.total(loss.of_rows(answer, y)) for who, answer in measured.items()},
        **({"r2": float(np.mean(r2))} if len(r2) == len(each) else {}),
        "targets": each,
    }


def quantiles(predicted: np.ndarray, y: np.ndarray, train_y: np.ndarray, levels: tuple[float, ...]) -> dict[str, Any]:
    """Return the pinball loss of `predicted` [rows, levels], that of the training rows' quantiles, and what each covers.

    A quantile covers the share of rows up to it: as large as its level if it is right.
    """
    constant = np.broadcast_to(np.quantile(train_y, levels), predicted.shape)
    losses = pinball_losses(predicted, y, levels)
    return {
        "pinball": float(losses.mean()),
        "constant_pinball": float(pinball_losses(constant, y, levels).mean()),
        "quantiles": {
            repr(level): {
                "coverage": float((y <= predicted[:, place]).mean()),
                "pinball": float(losses[:, place].mean()),
            }
            for place, level in enumerate(levels)
        },
    }


def pinball_losses(predicted: np.ndarray, y: np.ndarray, levels: tuple[float, ...]) -> np.ndarray:
    """Return max(q e, (q - 1) e) of each row and level q [rows, levels] float64, e what y is above the quantile."""
    level = np.asarray(levels)
    above = y[:, None] - predicted.astype(np.float64)
    losses: np.ndarray = np.maximum(level * above, (level - 1.0) * above)
    return losses


def log_loss(p: np.ndarray, y: np.ndarray) -> float:
    """Return the mean −log p of the true class, in nats: p [rows, classes], y [rows] class codes."""
    return float(log_losses(p, y).mean())


def log_losses(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the −log p of each row's true class [rows], in nats."""
    losses: np.ndarray = -np.log(np.maximum(p[np.arange(len(y)), y].astype(np.float64), TINY))
    return losses


def squared_errors(values: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the squared error of each row's value [rows] float64."""
    errors: np.ndarray = np.square(values.astype(np.float64) - y)
    return errors


def standardised_errors(scales: tuple[float, ...], values: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the squared error of each row [rows] float64, the mean over the targets, each in units of its scale."""
    errors: np.ndarray = np.square((values.astype(np.float64) - y) / np.asarray(scales)).mean(axis=1)
    return errors


def auc(score: np.ndarray, positive: np.ndarray) -> float:
    """Return the area under the ROC curve of score [rows]: the share of ordered (positive, negative) pairs, ties half."""
    return auc_of_places(places_of(score), positive)


def places_of(score: np.ndarray) -> np.ndarray:
    """Return the place of each score [rows] in the ascending order of the distinct ones [rows] int64."""
    places: np.ndarray = np.unique(score, return_inverse=True)[1]
    return places


def auc_of_places(places: np.ndarray, positive: np.ndarray) -> float:
    """Return the area under the ROC curve of rows at these places [rows] int64, for which nothing has to be sorted.

    It is Mann and Whitney's: from the sum of the positives' ranks, where equal scores share their mean rank. The ranks
    are multiples of one half, so the sum has no rounding.
    """
    counts = np.bincount(places)
    ranks = np.cumsum(counts) - (counts - 1) / 2  # of each place
    positives, negatives = int(positive.sum()), int((~positive).sum())
    summed = float(np.bincount(places[positive], minlength=len(counts)) @ ranks)
    return (summed - positives * (positives + 1) / 2) / (positives * negatives)


def poisson_deviances(values: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the unit Poisson deviance of each row [rows] float64 of means `values` above 0 and counts y from 0 up."""
    mean = np.maximum(values.astype(np.float64), LEAST_VALUE)
    deviances: np.ndarray = 2.0 * (xlogy(y, y) - xlogy(y, mean) - y + mean)
    return deviances


def gamma_deviances(values: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the unit gamma deviance of each row [rows] float64 of means `values` and amounts y, both above 0."""
    mean = np.maximum(values.astype(np.float64), LEAST_VALUE)
    deviances: np.ndarray = 2.0 * (y / mean - 1.0 - np.log(y) + np.log(mean))
    return deviances


LOG_LOSS = Loss("log_loss", "log loss", log_losses)
OF_VALUES = {
    "squared_error": Loss("rmse", "RMSE", squared_errors, is_root=True),
    "poisson": Loss("poisson_deviance", "Poisson deviance", poisson_deviances),
    "gamma": Loss("gamma_deviance", "gamma deviance", gamma_deviances),
}
