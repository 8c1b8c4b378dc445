"""Signs of weights that make the scores of a network monotone in some of its inputs, whatever the others are.

Every hidden unit is of one kind: 1, it never falls where a constrained input moves in its direction; -1, it never rises; 0, it
reads no constrained input, neither itself nor through other units. A weight from an input (or unit) of kind i to a unit of kind o
then has a sign: that of i o where both have a kind, any where i is 0, and it is 0 where only o is. ReLU never falls, batch norm
with gamma >= 0 neither, and every score is of kind 1. So a path from a constrained input to a score has an even number of
turns, and the folded network keeps the same signs.

Units of kind 1 alone would make scores convex in what the first layer computes, since ReLU is; those of kind -1 contribute the
concave part, min(z, 0) = -max(-z, 0) (Runje, Shankaranarayana 2023, "Constrained Monotonic Neural Networks"). Units of kind 0
are a network of their own for the other inputs, whose weights are free, and units of the other kinds read them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

FREE_SHARE = 0.25  # of the units of a layer, where there is an input without a constraint


class Limits(NamedTuple):
    """Between which values a parameter lies: zeros and infinities, of its shape or broadcast to it."""

    parameter: nn.Parameter
    low: Tensor
    high: Tensor


@dataclass(frozen=True)
class Signs:
    """The kinds of a network's inputs and units: 1, -1 or 0."""

    kinds: tuple[np.ndarray, ...]  # of the inputs, of the units of each hidden layer, of the scores: [units] int8 each

    @classmethod
    def of(cls, directions: np.ndarray, widths: tuple[int, ...], outputs: int) -> "Signs":
        """Share the units out, for inputs [inputs] int8 with which the scores must not fall (1) or not rise (-1), or may do both (0)."""
        free = FREE_SHARE if (directions == 0).any() else 0.0
        return cls((directions, *(kinds_of(width, free) for width in widths), np.ones(outputs, np.int8)))

    def of_weight(self, layer: int, weight: nn.Parameter) -> Limits:
        """Return the limits of the weight [members, out, in] of a layer; the head is the last."""
        source, unit = self.kinds[layer][None, :], self.kinds[layer + 1][:, None]
        sign = source * unit  # 1 and -1 where both have a kind
        is_absent = (unit == 0) & (source != 0)
        low = np.where((sign == 1) | is_absent, 0.0, -np.inf)
        high = np.where((sign == -1) | is_absent, 0.0, np.inf)
        return Limits(weight, torch.from_numpy(low).to(weight), torch.from_numpy(high).to(weight))

    def of_gamma(self, layer: int, gamma: nn.Parameter) -> Limits:
        """Return the limits of the gammas [members * units] of a hidden layer."""
        kinds = self.kinds[layer + 1]
        low = torch.from_numpy(np.where(kinds == 0, -np.inf, 0.0)).to(gamma)
        return Limits(gamma, low.repeat(len(gamma) // len(kinds)), torch.full((), np.inf).to(gamma))


def not_negative(parameter: nn.Parameter) -> Limits:
    """Return the limits of a parameter of any shape that is never below 0."""
    return Limits(parameter, torch.zeros(()).to(parameter), torch.full((), np.inf).to(parameter))


def kinds_of(width: int, free_share: float) -> np.ndarray:
    """Return the kinds of the units of a layer [width] int8: of those that are not free, half rise and half fall."""
    free = int(width * free_share)
    rising = (width - free + 1) // 2
    return np.repeat(np.asarray([1, -1, 0], np.int8), [rising, width - free - rising, free])


@torch.no_grad()
def reflect(limits: Iterable[Limits]) -> None:
    """Give initial weights their signs: sizes stay as they were drawn."""
    for weight, low, high in limits:
        signed = torch.where(low == 0.0, weight.abs(), torch.where(high == 0.0, -weight.abs(), weight))
        weight.copy_(signed.clamp(low, high))


@torch.no_grad()
def project(limits: Iterable[Limits]) -> None:
    """Move parameters to the nearest values within their limits; what is averaged between such values stays within them."""
    for parameter, low, high in limits:
        parameter.clamp_(low, high)
