"""Population statistics: after training, the mean and variance of every batch-norm channel over all training rows.

Training leaves running averages, torch's over recent batches and with the unbiased variance (n − 1). Serving should
normalise by the population instead: the whole training set, biased variance (n), as Ioffe and Szegedy state inference.
Layer k reads what layer k − 1 gives with *its* frozen statistics, so the layers are recomputed one after another, in
eval mode (no dropout, no batch statistics) and in float64. Batches are merged as (count, mean, M2), M2 the sum of
squared deviations from the mean (Chan, Golub, LeVeque 1979): how the rows are cut into batches changes the result by
no more than the rounding of float64.
"""

import copy
from collections.abc import Iterator
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from batchproof.training.distributed.group import Group
from batchproof.training.network.network import Network
from batchproof.training.network.tensors import HeldRows, in_one

BATCH_ROWS = 4_096  # rows in float64 at a time: bounds the memory, not the result


class Moments(NamedTuple):
    """The moments of some rows, by channel."""

    rows: int
    mean: Tensor  # [channels] float64
    m2: Tensor  # [channels] float64, sum of squared deviations from the mean

    @property
    def var(self) -> Tensor:
        """Population variance [channels] float64: M2 / n."""
        return self.m2 / self.rows


def moments(values: Tensor) -> Moments:
    """Return the moments of one batch [rows, channels] float64: two passes, so that no digits cancel."""
    mean = values.mean(dim=0)
    return Moments(len(values), mean, (values - mean).square().sum(dim=0))


def merge(a: Moments, b: Moments) -> Moments:
    """Return the moments of the rows of both."""
    rows = a.rows + b.rows
    delta = b.mean - a.mean
    mean = a.mean + delta * (b.rows / rows)
    return Moments(rows, mean, a.m2 + b.m2 + delta.square() * (a.rows * b.rows / rows))


@torch.no_grad()
def recompute(network: Network, rows: HeldRows, batch_rows: int = BATCH_ROWS, group: Group | None = None) -> Network:
    """Return a float64 copy of `network` in eval mode whose batch norms hold the population statistics of `rows`.

    The processes of a group share the batches out, and all merge them in the order of the rows.
    """
    frozen = copy.deepcopy(network).double().eval()
    for depth, block in enumerate(frozen.blocks):
        total = reduce(merge, batch_moments(frozen, depth, rows, batch_rows, group or Group(0, 1)))
        block.get_buffer("norm.running_mean").copy_(total.mean)
        block.get_buffer("norm.running_var").copy_(total.var)
    return frozen


def batch_moments(network: Network, depth: int, rows: HeldRows, batch_rows: int, group: Group) -> list[Moments]:
    """Return the moments of each batch of `rows` before the batch norm of block `depth`, in order."""
    starts = range(0, len(rows.y), batch_rows)
    like = torch.stack([network.blocks[depth].get_buffer("norm.running_mean")] * 2)
    dealt = group.deal(len(starts))
    found = (moments(before_norm(network, depth, *batch_of(rows, starts[number], batch_rows))) for number in dealt)
    own = in_one((torch.stack([batch.mean, batch.m2]).unsqueeze(0) for batch in found), len(dealt))
    parts = group.collect(list(own), like, len(starts))
    return [Moments(min(batch_rows, len(rows.y) - start), *part) for start, part in zip(starts, parts, strict=True)]


def before_norm(network: Network, depth: int, x: Tensor, codes: Tensor | None) -> Tensor:
    """Return the input of the batch norm of block `depth` [rows, channels]; earlier blocks use their own statistics."""
    hidden = network.joined(x, codes)
    for block in network.blocks[:depth]:
        hidden = block(hidden)
    result: Tensor = network.blocks[depth].get_submodule("linear")(hidden)
    return result


def batches(rows: HeldRows, batch_rows: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Cut the rows into batches of float64 x [rows, width] and codes, one in memory at a time."""
    for start in range(0, len(rows.y), batch_rows):
        yield batch_of(rows, start, batch_rows)


def batch_of(rows: HeldRows, start: int, count: int) -> tuple[Tensor, Tensor | None]:
    """Return float64 x [count, width] and codes of the rows from `start`; there are fewer at the end."""
    batch = rows.cut(start, start + count)
    return batch.x.double(), batch.codes
