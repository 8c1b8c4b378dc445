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
from typing import NamedTuple

import torch
from torch import Tensor

from batchproof.training.network.network import Network
from batchproof.training.network.tensors import Rows

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
def recompute(network: Network, rows: Rows, batch_rows: int = BATCH_ROWS) -> Network:
    """Return a float64 copy of `network` in eval mode whose batch norms hold the population statistics of `rows`."""
    frozen = copy.deepcopy(network).double().eval()
    for depth, block in enumerate(frozen.blocks):
        total: Moments | None = None
        for x, codes in batches(rows, batch_rows):
            batch = moments(before_norm(frozen, depth, x, codes))
            total = batch if total is None else merge(total, batch)
        assert total is not None, "there is at least one training row"
        block.get_buffer("norm.running_mean").copy_(total.mean)
        block.get_buffer("norm.running_var").copy_(total.var)
    return frozen


def before_norm(network: Network, depth: int, x: Tensor, codes: Tensor | None) -> Tensor:
    """Return the input of the batch norm of block `depth` [rows, channels]; earlier blocks use their own statistics."""
    hidden = network.joined(x, codes)
    for block in network.blocks[:depth]:
        hidden = block(hidden)
    result: Tensor = network.blocks[depth].get_submodule("linear")(hidden)
    return result


def batches(rows: Rows, batch_rows: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Cut the rows into batches of float64 x [rows, width] and codes, one in memory at a time."""
    for start in range(0, len(rows.x), batch_rows):
        cut = slice(start, start + batch_rows)
        yield rows.x[cut].double(), None if rows.codes is None else rows.codes[cut]
