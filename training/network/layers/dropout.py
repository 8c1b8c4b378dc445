"""Dropout whose draws are cheap on a CPU: four values share one 64-bit draw.

A value is dropped with probability p and scaled by 1 / (1 - p) otherwise, which keeps the mean (Srivastava 2014).
"""

from collections.abc import Sequence

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

    def masked(self, x: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Return x [shards, rows, channels] masked and scaled, the masks of each shard drawn by its own generator."""
        if self.share == 0.0:
            return x
        values = x.shape[1:].numel()
        words = torch.stack(
            [self._words(values, x.device).random_(-(2**63), None, generator=generator) for generator in generators]
        )
        return x * self._scaled(words.view(torch.int16)[:, :values].view(x.shape), x.dtype)

    def _words(self, values: int, device: torch.device) -> Tensor:
        return torch.empty(-(-values // DRAWS), dtype=torch.int64, device=device)

    def _scaled(self, draws: Tensor, dtype: torch.dtype) -> Tensor:
        dropped = round(self.share * LEVELS)  # of the LEVELS possible draws
        return (draws >= dropped - LEVELS // 2).to(dtype).mul_(LEVELS / (LEVELS - dropped))
