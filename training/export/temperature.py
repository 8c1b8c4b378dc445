"""Temperature scaling (Guo, Pleiss, Sun, Weinberger 2017) with a guard: scores are divided by one fitted number.

On a hundred validation rows the best temperature is mostly noise, and an extreme one ruins the log loss. So it is
bounded, and used only where it lowers the validation loss by more than the standard error of that gain.
"""

import math

import torch
from torch import Tensor

from batchproof.training.network.objective import Objective

LEAST, MOST = 0.5, 2.0
STEPS = 61  # temperatures tried, evenly spaced in their logarithm


def fit(scores: Tensor, y: Tensor, objective: Objective, weight: Tensor | None = None) -> float:
    """Return the temperature for validation `scores` [rows, outputs] and class codes y [rows]; 1 for regression.

    `weight` [rows] says how much each row counts; None: all equally.
    """
    if objective.task == "regression" or len(y) < 2:
        return 1.0
    scores = scores.double()

    def losses_at(temperature: float) -> Tensor:
        losses = objective.held_losses(scores / temperature, y)  # [rows]
        return losses if weight is None else losses * weight

    plain = losses_at(1.0)
    tried = torch.logspace(math.log2(LEAST), math.log2(MOST), STEPS, base=2.0, dtype=torch.float64)
    losses = torch.stack([losses_at(temperature).mean() for temperature in tried.tolist()])
    best = float(tried[losses.argmin()])
    gain = plain - losses_at(best)  # [rows]
    error = float(gain.std() / len(gain) ** 0.5)
    return best if float(gain.mean()) > error else 1.0
