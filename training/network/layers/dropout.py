"""Dropout whose draws are cheap on a CPU: four values share one 64-bit draw.

A value is dropped with probability p and scaled by 1 / (1 - p) otherwise, which keeps the mean (Srivastava 2014).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

LEVELS = 2**16  # of a draw of 16 bits: p is rounded to the nearest multiple of 1 / LEVELS
DRAWS = 4  # such draws in an int64


class Dropout(nn.Module):
    """Drop values at random in training mode; the identity in eval mode.

    On the CPU, masks come from `generator`, or from torch's own where it is None; on a GPU from torch.
    """

    def __init__(self, share: float) -> None:
        """Drop each value with probability `share`."""
        super().__init__()
        self.share = share
        self.generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return x of any shape, masked and scaled."""
        if not self.training or self.share == 0.0:
            return x
        return functional.dropout(x, self.share) if x.is_cuda else x * self.mask(x)

    def mask(self, x: Tensor) -> Tensor:
        """Draw 0 or 1 / (1 - p) for each value of x."""
        words = self._words(x.numel(), x.device).random_(-(2**63), None, generator=self.generator)
        return self._scaled(words.view(torch.int16)[: x.numel()].view(x.shape), x.dtype)

    def mask_(self, x: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Set dropped values of x [rows, shards, channels] to 0 in place, each shard's drawn by its own generator on the CPU.

        Numpy makes the masks: it writes the result of a comparison as floats, without a pass for each step.
        """
        rows, shards, channels = x.shape
        words, values = self._words(rows * channels, torch.device("cpu")), rows * channels
        draws, kept = words.numpy().view(np.int16)[:values], np.empty(values, np.float32)
        for shard in range(shards if self.share else 0):
            words.random_(-(2**63), None, generator=generators[shard])
            np.greater_equal(draws, self._least, out=kept, casting="unsafe")
            x[:, shard].mul_(torch.from_numpy(kept).view(rows, channels).to(x.device))
        return x

    @property
    def ratio(self) -> float:
        """What kept values are multiplied by: 1 / (1 - p)."""
        return LEVELS / (LEVELS - self._dropped)

    @property
    def _dropped(self) -> int:
        return round(self.share * LEVELS)  # of the LEVELS possible draws

    @property
    def _least(self) -> int:
        return self._dropped - LEVELS // 2

    def _words(self, values: int, device: torch.device) -> Tensor:
        return torch.empty(-(-values // DRAWS), dtype=torch.int64, device=device)

    def _scaled(self, draws: Tensor, dtype: torch.dtype) -> Tensor:
        return (draws >= self._least).to(dtype).mul_(self.ratio)
