"""What the network is trained towards: class codes, or standardised values."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Task = Literal["binary", "multiclass", "regression"]


@dataclass(frozen=True)
class Objective:
    """Task, number of scores and, for regression, the mean and spread that scores are in units of."""

    task: Task
    outputs: int  # 1 for binary (the log-odds of class 1) and regression, else the number of classes
    mean: float = 0.0
    std: float = 1.0

    def encode(self, y: np.ndarray) -> Tensor:
        """Return what the loss takes for y [rows] class codes or float64 values: int64, or float32 standard units."""
        if self.task == "regression":
            return torch.from_numpy(((y - self.mean) / self.std).astype(np.float32))
        return torch.from_numpy(y.astype(np.int64))

    def losses(self, scores: Tensor, y: Tensor, unknown: float = 0.0) -> Tensor:
        """Return the loss of each row [rows]: log loss in nats, or squared error in squared standard units.

        `unknown` is the share of each label that is spread evenly over the classes.
        """
        if self.task == "regression":
            return (scores[:, 0] - y).square()
        if self.task == "binary":
            share = y.to(scores.dtype) * (1.0 - unknown) + unknown / 2
            return functional.binary_cross_entropy_with_logits(scores[:, 0], share, reduction="none")
        return functional.cross_entropy(scores, y, reduction="none", label_smoothing=unknown)

    def held_losses(self, scores: Tensor, y: Tensor) -> Tensor:
        """Return the loss of each held-out row [rows], with one further row of unknown class among them.

        A small validation set that is wholly separable would otherwise reward certainty without end, in the epochs
        that it selects and in the temperature. (The pseudo-count of Platt 1999; nothing for thousands of rows.)
        """
        return self.losses(scores, y, 1.0 / (len(y) + 1))


def fit(task: Task, y: np.ndarray, classes: int) -> Objective:
    """Fit on training rows: y [rows] class codes 0 … classes - 1, or float64 values."""
    if task == "regression":
        std = float(np.std(y))
        return Objective(task, 1, float(np.mean(y)), std if std > 0 else 1.0)
    return Objective(task, 1 if task == "binary" else classes)
