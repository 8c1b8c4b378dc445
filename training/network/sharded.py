"""The network in training mode on shards of a batch: the same bits, however many processes the shards are spread over.

All tensors of rows have a first dimension, the shards of this process: [shards, rows, channels]. Sums over rows and matrix
products are taken a shard at a time, so that every call has the same shape in every run, and merged in the order of
`distributed.tree`. What is computed over all shards at once are copies and single additions, subtractions,
multiplications and comparisons, which IEEE 754 rounds in one way only, wherever a value lies.

Batch norm is that of the whole batch of n rows, with mean m, variance v (biased) and s = 1 / sqrt(v + eps):

    x' = (x - m) s,  y = gamma x' + beta
    d beta = sum dy,  d gamma = sum dy x',  dx = gamma s (dy - (d beta + x' d gamma) / n)

(Ioffe and Szegedy 2015, section 3.) Two halves with equally many rows have together the mean (a + b) / 2 and the variance
(va + vb) / 2 + ((b - a) / 2)^2: the formula of Chan, Golub and LeVeque (1979) for equal counts.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from batchproof.training.distributed.group import Group
from batchproof.training.distributed.tree import pairwise, tree_sum
from batchproof.training.network.network import Block, Members, Network

ALIGNMENT = 16  # float32 values in 64 bytes: matrix products may take another path where a matrix starts elsewhere


class Pass(NamedTuple):
    """What a forward pass over this process's shards needs beside the rows."""

    group: Group
    generators: Sequence[torch.Generator]  # of the dropout masks, one a shard


def member_scores(network: Network, x: Tensor, codes: Tensor | None, shards: Pass) -> Tensor:
    """Return the scores of each member [shards, rows, members, outputs] for x [shards, rows, inputs] and codes alike."""
    hidden = x
    if codes is not None and len(network.embeddings):
        tables = [cast(nn.Embedding, table).weight for table in network.embeddings]
        hidden = torch.cat([x, *(_applied(Lookup, table, codes[..., i]) for i, table in enumerate(tables))], dim=-1)
    for block in network.blocks:
        hidden = _block(cast(Block, block), hidden, shards)
    scores = _linear(network.head, hidden)
    return scores.view(*scores.shape[:2], network.settings.members, network.outputs)


def _block(block: Block, x: Tensor, shards: Pass) -> Tensor:
    norm = block.norm
    normed = _applied(Norm, _linear(block.linear, x), norm.weight, norm.bias, norm, shards.group)
    return block.dropout.masked(functional.relu_(normed), shards.generators)


def _linear(layer: Members, x: Tensor) -> Tensor:
    """Apply each member's weights to its own inputs: [shards, rows, inputs] -> [shards, rows, members * outputs]."""
    members, outputs, inputs = layer.weight.shape
    if layer.shared:
        bias = None if layer.bias is None else layer.bias.reshape(1, -1)
        return _applied(Linear, x, layer.weight.reshape(members * outputs, inputs), bias)
    each = x.view(*x.shape[:2], members, inputs).transpose(1, 2)  # [shards, members, rows, inputs]
    y = _applied(Linear, each, layer.weight, None if layer.bias is None else layer.bias.unsqueeze(1))
    return y.transpose(1, 2).reshape(*x.shape[:2], members * outputs)


def _applied(function: type[torch.autograd.Function], *arguments: Any) -> Tensor:
    result: Tensor = function.apply(*arguments)  # type: ignore[no-untyped-call]
    return result


class Linear(torch.autograd.Function):
    """x [shards, ..., rows, inputs] times weight [..., outputs, inputs], plus bias [..., 1, outputs]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Multiply each shard by itself."""
        x = aligned(x)
        y = slots(len(x), (*x.shape[1:-1], weight.shape[-2]), x)
        for shard, result in zip(x, y, strict=True):
            torch.matmul(shard, weight.mT, out=result)
        ctx.save_for_backward(x, weight)
        return y if bias is None else y.add_(bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        """Return the gradients: of the rows by shard, of weight and bias summed over this process's shards."""
        x, weight = ctx.saved_tensors
        dy, dx = aligned(dy), None
        if ctx.needs_input_grad[0]:
            dx = slots(len(x), x.shape[1:], x)
            for shard, result in zip(dy, dx, strict=True):
                torch.matmul(shard, weight, out=result)
        d_weight = tree_sum(torch.matmul(shard.mT, rows) for shard, rows in zip(dy, x, strict=True))
        d_bias = tree_sum(shard.sum(dim=-2, keepdim=True) for shard in dy) if ctx.needs_input_grad[2] else None
        return dx, d_weight, d_bias


class Norm(torch.autograd.Function):
    """Batch norm over the shards of all processes, which updates the running statistics as torch's own does."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gamma: Tensor | None, beta: Tensor | None, norm: nn.BatchNorm1d, group: Group
    ) -> Tensor:
        """Normalise x [shards, rows, channels]."""
        rows = group.size * x.shape[0] * x.shape[1]
        parts = [torch.stack(torch.batch_norm_update_stats(shard, None, None, 0.0)) for shard in x]  # mean and variance
        mean, variance = group.merge(pairwise(torch.stack(parts), merge_moments), merge_moments)
        _update(norm, mean, variance, rows)
        y, unused = torch.empty_like(x), x.new_empty(0)
        for shard, result in zip(x, y, strict=True):
            torch.native_batch_norm(
                shard, gamma, beta, mean, variance, False, 0.0, norm.eps, out=(result, unused, unused)
            )
        ctx.save_for_backward(x, mean, variance, gamma)
        ctx.group, ctx.rows, ctx.eps = group, rows, norm.eps
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Return dx by shard; those of gamma and beta are summed over this process's shards."""
        x, mean, variance, gamma = ctx.saved_tensors
        statistics, wanted = (mean, variance, None, None, False, ctx.eps), (False, True, True)
        sums = torch.ops.aten.native_batch_norm_backward  # with given statistics: d gamma and d beta of a shard
        parts = [torch.stack(sums(d, rows, gamma, *statistics, wanted)[1:]) for d, rows in zip(dy, x, strict=True)]
        own = pairwise(torch.stack(parts))  # d gamma, d beta [2, channels]
        d_gamma, d_beta = ctx.group.merge(own) / ctx.rows
        scale = torch.rsqrt(variance + ctx.eps)
        slope, height = scale * -d_gamma, scale if gamma is None else scale * gamma
        dx = torch.empty_like(x)
        for d, rows, result in zip(dy, x, dx, strict=True):
            torch.sub(rows, mean, out=result).mul_(slope).add_(d).sub_(d_beta).mul_(height)
        if gamma is None:
            return dx, None, None, None, None
        return dx, own[0], own[1], None, None


class Lookup(torch.autograd.Function):
    """The rows of an embedding table [codes, dimensions] for codes [shards, rows]."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, codes: Tensor) -> Tensor:
        """Return [shards, rows, dimensions]."""
        ctx.save_for_backward(codes)
        ctx.count = len(table)
        return functional.embedding(codes, table)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        """Return the table's gradient, summed over this process's shards."""
        (codes,) = ctx.saved_tensors
        scatter = torch.ops.aten.embedding_dense_backward
        return tree_sum(scatter(d, code, ctx.count, -1, False) for d, code in zip(dy, codes, strict=True)), None


def merge_moments(a: Tensor, b: Tensor) -> Tensor:
    """Merge means and biased variances of equally many rows, stacked [n, 2, channels]."""
    merged = (a + b).mul_(0.5)
    gap = (b[:, 0] - a[:, 0]).mul_(0.5)
    merged[:, 1].add_(gap.mul_(gap))
    return merged


def _update(norm: nn.BatchNorm1d, mean: Tensor, variance: Tensor, rows: int) -> None:
    assert norm.running_mean is not None, "batch norms track their statistics"
    assert norm.running_var is not None, "batch norms track their statistics"
    momentum = norm.momentum if norm.momentum is not None else 0.0
    norm.running_mean.lerp_(mean, momentum)
    norm.running_var.lerp_(variance * (rows / (rows - 1)), momentum)  # torch's running variance is the unbiased one


def slots(count: int, shape: Sequence[int], like: Tensor) -> Tensor:
    """Return room for `count` matrices [count, *shape], each of which starts at a multiple of 64 bytes."""
    size = torch.Size(shape).numel()
    room = torch.empty(count, size + -size % ALIGNMENT, dtype=like.dtype, device=like.device)
    return room[:, :size].view(count, *shape)


def aligned(x: Tensor) -> Tensor:
    """Return x [shards, ...] with shards that start at multiples of 64 bytes, whatever their number."""
    if x.shape[1:].numel() % ALIGNMENT == 0:
        return x  # torch allocates at multiples of 64
    return slots(len(x), x.shape[1:], x).copy_(x)
