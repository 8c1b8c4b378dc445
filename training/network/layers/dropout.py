"""ReLU and dropout in as few passes as a CPU needs; four values share one 64-bit draw.

A value is dropped with probability p and scaled by 1 / (1 - p) otherwise, which keeps the mean (Srivastava 2014).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

LEVELS = 2**16  # of a draw of 16 bits: p is rounded to the nearest multiple of 1 / LEVELS
DRAWS = 4  # such draws in an int64


class Rectified(torch.autograd.Function):
    """ReLU, then dropout. What is above 0 afterwards was neither negative nor dropped, so the result is all that is kept."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, kept: Tensor, ratio: float) -> Tensor:
        """Return z of any shape, 0 where it is negative or `kept` is 0, and multiplied by the ratio elsewhere."""
        y = z.clamp_min(0.0).mul_(kept).mul_(ratio)
        ctx.save_for_backward(y)
        ctx.ratio = ratio
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of z."""
        (y,) = ctx.saved_tensors
        dz: Tensor = torch.ops.aten.threshold_backward(dy, y, 0)
        return dz.mul_(ctx.ratio), None, None


class Dropout(nn.Module):
    """ReLU, then drop values at random in training mode; ReLU alone in eval mode.

    On the CPU, masks come from `generator`, or from torch's own where it is None; on a GPU from torch.
    """

    def __init__(self, share: float) -> None:
        """Drop each value with probability `share`."""
        super().__init__()
        self.share = share
        self.generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return x of any shape, rectified, masked and scaled; in eval mode x itself, rectified in place."""
        if not self.training or self.share == 0.0:
            return functional.relu_(x)
        if x.is_cuda:
            return functional.dropout(functional.relu_(x), self.share)
        result: Tensor = Rectified.apply(x, self._kept(x), self.ratio)  # type: ignore[no-untyped-call]
        return result

    def _kept(self, x: Tensor) -> Tensor:
        """Draw 0 or 1 for each value of x, as float32."""
        words = self._words(x.numel(), x.device).random_(-(2**63), None, generator=self.generator)
        kept = np.empty(x.numel(), np.float32)
        self._compare(words.numpy().view(np.int16)[: x.numel()], kept)
        return torch.from_numpy(kept).view(x.shape)

    def _compare(self, draws: np.ndarray, kept: np.ndarray) -> None:
        """Write 1 where a draw keeps its value, else 0: numpy writes the result of a comparison as floats in one pass."""
        np.greater_equal(draws, self._least, out=kept, casting="unsafe")

    def mask_(self, x: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Set dropped values of x [rows, shards, channels] to 0 in place, each shard's drawn by its own generator on the CPU."""
        rows, shards, channels = x.shape
        words, values = self._words(rows * channels, torch.device("cpu")), rows * channels
        draws, kept = words.numpy().view(np.int16)[:values], np.empty(values, np.float32)
        for shard in range(shards if self.share else 0):
            words.random_(-(2**63), None, generator=generators[shard])
            self._compare(draws, kept)
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
