"""The objective of the network: class codes with log loss, or values with squared error or a deviance.

Squared error fits values in standard units. The Poisson and the gamma deviance (McCullagh, Nelder 1989, section 2.3) fit the
logarithm z of the mean; with t the value in units of the training rows' mean, they are, for one row,

    Poisson  2 (t (log t - z) - t + exp z)        gamma  2 (t exp(-z) - 1 - log t + z)
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from batchproof.training.goal import RegressionLoss
from batchproof.training.network.fold import LOG_REACH

Task = Literal["binary", "multiclass", "regression"]
LEAST = 1e-37  # of a value in units of the mean: a smaller one has no logarithm in float32


@dataclass(frozen=True)
class Objective:
    """Task, number of scores and, for regression, the scale of the target: value = std · (what `values` returns) + mean.

    Several targets have a score and a scale each, and the loss is the mean over the targets.
    """

    task: Task
    outputs: int  # 1 for binary (the log-odds of class 1), one for each target or quantile, else the number of classes
    mean: float | tuple[float, ...] = 0.0  # of several targets, one for each
    std: float | tuple[float, ...] = 1.0  # of a deviance: the mean of the training rows, and `mean` is 0
    loss: RegressionLoss = "squared_error"  # of values; the others fit the logarithm of the mean
    quantiles: tuple[float, ...] = ()  # levels of the scores behind the value's
    metric: str | None = None  # what held-out rows are judged by (batchproof.training.fit.metric); None: the loss

    def encode(self, y: np.ndarray) -> Tensor:
        """Return y [rows] or [rows, targets], class codes or float64 values, as the loss expects it: int64, or float32 in units of std."""
        if self.task == "regression":
            return torch.from_numpy(((y - np.asarray(self.mean)) / np.asarray(self.std)).astype(np.float32))
        return torch.from_numpy(y.astype(np.int64))

    def losses(self, scores: Tensor, y: Tensor, unknown: float = 0.0) -> Tensor:
        """Return the loss of each row [rows]: log loss in nats, deviance, or squared error, plus the quantiles' pinball.

        `unknown` is the share of each label that is spread evenly over the classes (label smoothing).
        """
        if self.targets > 1:
            return (scores - y).square().mean(dim=1)
        if self.task == "regression":
            return self._value_losses(scores[:, 0], y) + self._pinball_losses(scores[:, 1:], y)
        if self.task == "binary":
            share = y.to(scores.dtype) * (1.0 - unknown) + unknown / 2
            return functional.binary_cross_entropy_with_logits(scores[:, 0], share, reduction="none")
        return functional.cross_entropy(scores, y, reduction="none", label_smoothing=unknown)

    @property
    def targets(self) -> int:
        """How many numbers are predicted; 1 for classes."""
        return len(self.mean) if isinstance(self.mean, tuple) else 1

    def values(self, scores: Tensor) -> Tensor:
        """Return the predicted values [rows] of scores [rows, outputs], in the units of `encode`; of several targets [rows, targets]."""
        if self.targets > 1:
            return scores
        return scores[:, 0] if self.loss == "squared_error" else bounded(scores[:, 0]).exp()

    def _value_losses(self, score: Tensor, y: Tensor) -> Tensor:
        if self.loss == "squared_error":
            return (score - y).square()
        z = bounded(score)
        if self.loss == "poisson":
            return 2.0 * (torch.xlogy(y, y) - y * z - y + z.exp())
        t = y.clamp(min=LEAST)
        return 2.0 * (t * (-z).exp() - 1.0 - t.log() + z)

    def _pinball_losses(self, scores: Tensor, y: Tensor) -> Tensor | float:
        """Return the mean over the levels q of max(q e, (q - 1) e), e what y is above the quantile (Koenker, Bassett 1978)."""
        if not self.quantiles:
            return 0.0
        level = torch.tensor(self.quantiles, dtype=scores.dtype, device=scores.device)
        above = y.to(scores.dtype).unsqueeze(1) - scores  # [rows, levels]
        return torch.maximum(level * above, (level - 1.0) * above).mean(dim=1)

    def held_losses(self, scores: Tensor, y: Tensor) -> Tensor:
        """Return the loss of each held-out row [rows], as if one more row of unknown class were among them.

        Without it, a small validation set that is separable would reward ever larger scores, in the choice of the
        epoch and in the temperature. (The pseudo-count of Platt 1999; negligible for thousands of rows.)
        """
        return self.losses(scores, y, 1.0 / (len(y) + 1))


def bounded(score: Tensor) -> Tensor:
    """Return the logarithms of means within the reach that the served graph has, so that no float32 overflows."""
    return score.clamp(-LOG_REACH, LOG_REACH)


def fit(
    task: Task,
    y: np.ndarray,
    classes: int,
    metric: str | None = None,
    loss: RegressionLoss = "squared_error",
    quantiles: tuple[float, ...] = (),
) -> Objective:
    """Fit to the training rows: y [rows] class codes 0 … classes - 1, or float64 values; [rows, targets] of several targets."""
    if y.ndim > 1:
        stds = tuple(std or 1.0 for std in np.std(y, axis=0).tolist())
        return Objective(task, y.shape[1], tuple(np.mean(y, axis=0).tolist()), stds, metric=metric)
    if loss != "squared_error":
        return Objective(task, 1, 0.0, float(np.mean(y)), loss, metric=metric)
    if task == "regression":
        std = float(np.std(y))
        outputs = 1 + len(quantiles)
        return Objective(task, outputs, float(np.mean(y)), std if std > 0 else 1.0, quantiles=quantiles, metric=metric)
    return Objective(task, 1 if task == "binary" else classes, metric=metric)
