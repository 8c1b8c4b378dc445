"""One call for several shards, where it gives the bits of a call for each.

A library chooses how to compute a product or a sum by its shape, and promises nothing about the bits of another shape. So a
call for all shards of a process is first compared, bit for bit, with a call for each of them, on random values of the same
shapes. The order of additions follows from shapes, not from values: two orders differ somewhere among so many random values,
and where a sum starts shows in the signs of zeros.
Where the bits agree, later calls of these shapes are joint; where they do not, there is one call a shard. So the bits
are always those of one call a shard, and the number of processes only decides how fast they come.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from batchproof.training.distributed.tree import tree_sum

AXIS = 1  # the shards of a tensor [rows, shards, ...]
VALUES = 1 << 15  # random results that are compared, at least
MOST_ROUNDS = 16
ZEROS = 0.1  # share of values, of rows and of channels that are zeros

Call = Callable[..., Tensor]
Combine = Callable[[Sequence[Tensor]], Tensor]


def side_by_side(parts: Sequence[Tensor]) -> Tensor:
    """Join the results of shards [rows, 1, ...] to [rows, shards, ...]."""
    return torch.cat(list(parts), dim=AXIS)


def added(parts: Sequence[Tensor]) -> Tensor:
    """Add the results of shards in the order of the tree; they are overwritten."""
    return tree_sum(parts)


class Joint:
    """Calls for several shards at once; which of them are joint is remembered by their shapes."""

    def __init__(self) -> None:
        """Know no shape yet."""
        self.agrees: dict[tuple[object, ...], bool] = {}
        self.random = torch.Generator().manual_seed(0)

    def __call__(
        self, call: Call, cut: Sequence[Tensor], whole: Sequence[Tensor] = (), combine: Combine = side_by_side
    ) -> Tensor:
        """Return what `combine` makes of a call for each shard of the tensors `cut` [rows, shards, ...].

        Every call gets the tensors `whole` after those that are cut, which it may overwrite. `combine` joins the results or adds them up. All are
        contiguous, and of one type and one device for a shape: the shapes say all that a library chooses by.
        """
        if cut[0].shape[AXIS] == 1:
            return call(*cut, *whole)
        key = (call, *(each.shape for each in cut), *(each.shape for each in whole))
        if key not in self.agrees:
            self.agrees[key] = self._compared(call, cut, whole, combine)
        return call(*cut, *whole) if self.agrees[key] else one_by_one(call, cut, whole, combine)

    def _compared(self, call: Call, cut: Sequence[Tensor], whole: Sequence[Tensor], combine: Combine) -> bool:
        seen = 0
        for _ in range(MOST_ROUNDS):
            drawn, shared = [self._drawn(each) for each in cut], [self._drawn(each) for each in whole]
            joint = call(*(each.clone() for each in drawn), *shared)
            if not same_bits(joint, one_by_one(call, drawn, shared, combine)):
                return False
            seen += joint.numel()
            if seen >= VALUES:
                break
        return True

    def _drawn(self, like: Tensor) -> Tensor:
        """Return normal values in the shape of a tensor; whole numbers, which are codes, as they are.

        Some values, rows and channels are zeros of either sign: a sum of zeros has the sign that its first term gives it.
        """
        if not like.is_floating_point():
            return like
        drawn = torch.randn(like.shape, generator=self.random, dtype=torch.float64)
        masks = [like.shape, (1, *like.shape[1:]), (*like.shape[:-1], 1)] if like.dim() > 1 else [like.shape]
        for mask in masks:
            drawn *= torch.rand(mask, generator=self.random) > ZEROS
        return drawn.to(like)


def one_by_one(call: Call, cut: Sequence[Tensor], whole: Sequence[Tensor], combine: Combine) -> Tensor:
    """Make one call for each shard, each on tensors of its own as a process with one shard has them."""
    shards = zip(*(torch.split(each, 1, dim=AXIS) for each in cut), strict=True)
    return combine([call(*(part.contiguous() for part in shard), *whole) for shard in shards])


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors have the same shape and the same bits; a NaN equals itself."""
    return a.shape == b.shape and bool(((a == b) & (a.signbit() == b.signbit()) | (a.isnan() & b.isnan())).all())
