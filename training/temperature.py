"""Temperature scaling with a guard (Guo, Pleiss, Sun, Weinberger 2017): scores are divided by one fitted number.

On a hundred validation rows the best temperature is mostly noise, and one that runs away ruins the log loss. So it is
bounded, and taken only where it lowers the validation loss by more than the standard error of that gain.
"""

import math

import torch
from torch import Tensor

from training.target import Target

LEAST, MOST = 0.5, 2.0
STEPS = 61  # temperatures tried, evenly spaced in their logarithm


def fit(scores: Tensor, y: Tensor, target: Target) -> float:
    """Return the temperature for validation `scores` [rows, outputs] and class codes y [rows]; 1 for regression."""
    if target.task == "regression" or len(y) < 2:
        return 1.0
    scores = scores.double()
    plain = target.held_losses(scores, y)  # [rows]
    tried = torch.logspace(math.log2(LEAST), math.log2(MOST), STEPS, base=2.0, dtype=torch.float64)
    losses = torch.stack([target.held_losses(scores / temperature, y).mean() for temperature in tried])
    best = float(tried[losses.argmin()])
    gain = plain - target.held_losses(scores / best, y)  # [rows]
    error = float(gain.std() / len(gain) ** 0.5)
    return best if float(gain.mean()) > error else 1.0
