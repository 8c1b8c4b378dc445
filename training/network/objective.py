"""The objective of the network: class codes with log loss, or standardised values with squared error."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Task = Literal["binary", "multiclass", "regression"]


@dataclass(frozen=True)
class Objective:
    """Task, number of scores and, for regression, the mean and standard deviation of the target."""

    task: Task
    outputs: int  # 1 for binary (the log-odds of class 1) and regression, else the number of classes
    mean: float = 0.0
    std: float = 1.0
    metric: str | None = None  # what held-out rows are judged by (batchproof.training.fit.metric); None: the loss

    def encode(self, y: np.ndarray) -> Tensor:
        """Return y [rows], class codes or float64 values, as the loss expects it: int64, or float32 in standard units."""
        if self.task == "regression":
            return torch.from_numpy(((y - self.mean) / self.std).astype(np.float32))
        return torch.from_numpy(y.astype(np.int64))

    def losses(self, scores: Tensor, y: Tensor, unknown: float = 0.0) -> Tensor:
        """Return the loss of each row [rows]: log loss in nats, or squared error in squared standard units.

        `unknown` is the share of each label that is spread evenly over the classes (label smoothing).
        """
        if self.task == "regression":
            return (scores[:, 0] - y).square()
        if self.task == "binary":
            share = y.to(scores.dtype) * (1.0 - unknown) + unknown / 2
            return functional.binary_cross_entropy_with_logits(scores[:, 0], share, reduction="none")
        return functional.cross_entropy(scores, y, reduction="none", label_smoothing=unknown)

    def held_losses(self, scores: Tensor, y: Tensor) -> Tensor:
        """Return the loss of each held-out row [rows], as if one more row of unknown class were among them.

        Without it, a small validation set that is separable would reward ever larger scores, in the choice of the
        epoch and in the temperature. (The pseudo-count of Platt 1999; negligible for thousands of rows.)
        """
        return self.losses(scores, y, 1.0 / (len(y) + 1))


def fit(task: Task, y: np.ndarray, classes: int, metric: str | None = None) -> Objective:
    """Fit to the training rows: y [rows] class codes 0 … classes - 1, or float64 values."""
    if task == "regression":
        std = float(np.std(y))
        return Objective(task, 1, float(np.mean(y)), std if std > 0 else 1.0, metric)
    return Objective(task, 1 if task == "binary" else classes, metric=metric)
