"""The network in training mode on shards of a batch: the same bits, however many processes the shards are spread over.

All tensors of rows have the shards of this process as their second dimension: [rows, shards, channels]. A call for several
shards is made only where it gives the bits of one call a shard (`distributed.joint`), and what comes of shards is merged in
the order of `distributed.tree`. Copies, comparisons and single multiplications need no such care: IEEE 754 rounds them in
one way only, wherever a value lies.

Batch norm is that of the whole batch of n rows, with mean m, variance v (biased) and s = 1 / sqrt(v + eps):

    x' = (x - m) s,  y = gamma x' + beta
    d beta = sum dy,  d gamma = sum dy x',  dx = gamma s (dy - (d beta + x' d gamma) / n)

(Ioffe and Szegedy 2015, section 3.) Two halves with equally many rows have together the mean (a + b) / 2 and the variance
(va + vb) / 2 + ((b - a) / 2)^2: the formula of Chan, Golub and LeVeque (1979) for equal counts.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from batchproof.training.distributed.group import Group
from batchproof.training.distributed.joint import Joint, added
from batchproof.training.distributed.tree import pairwise, total, tree_sum
from batchproof.training.network.network import Block, Members, Network

SMALL_VALUES = 1 << 14  # of a weight, whose gradient is rather one call for all shards


class ShardedNetwork:
    """The forward and the backward pass of a network, each over this process's shards of a batch.

    Both are written out: the graph that autograd would keep costs more than the arithmetic of its small operations.
    """

    def __init__(self, network: Network, group: Group) -> None:
        """Compute with the parameters of a network in training mode, whatever values they have."""
        self.network, self.joint = network, Joint()
        self.tables = [cast(nn.Embedding, table).weight for table in network.embeddings]
        self.blocks = [Hidden(cast(Block, block), group, self.joint) for block in network.blocks]
        self.head = Linear(network.head, self.joint)
        self.codes: Tensor | None = None

    @torch.no_grad()
    def scores(self, x: Tensor, codes: Tensor | None, generators: Sequence[torch.Generator]) -> Tensor:
        """Return the scores of each member [rows, shards, members, outputs] for x [rows, shards, inputs] and codes alike.

        `generators` are those of the dropout masks, one a shard.
        """
        hidden, self.codes = x, codes if self.tables else None
        if self.codes is not None:
            looked_up = (functional.embedding(self.codes[..., i], table) for i, table in enumerate(self.tables))
            hidden = torch.cat([x, *looked_up], dim=-1)
        for block in self.blocks:
            hidden = block.forward(hidden, generators)
        scores = self.head.forward(hidden)
        return scores.view(*scores.shape[:2], self.network.settings.members, self.network.outputs)

    @torch.no_grad()
    def backward(self, d_scores: Tensor) -> None:
        """Leave every parameter's gradient, summed over this process's shards, in the network, given that of the scores.

        Factors of inputs get theirs by `split_gradient`.
        """
        d = self.head.backward(d_scores.flatten(2), wanted=bool(self.blocks) or self.codes is not None)
        for number, block in reversed(list(enumerate(self.blocks))):
            assert d is not None, "only the gradient of x is not wanted"
            d = block.backward(d, wanted=number > 0 or self.codes is not None)
        if self.codes is None or d is None:
            return
        parts = torch.split(
            d, [d.shape[-1] - sum(t.shape[1] for t in self.tables), *(t.shape[1] for t in self.tables)], -1
        )
        for index, (table, part) in enumerate(zip(self.tables, parts[1:], strict=True)):
            codes = self.codes[..., index].contiguous()
            table.grad = pairwise(self.joint(scattered, (part.contiguous(), codes), (table.detach(),))[0])

    def split_gradient(self) -> None:
        """Give factors of inputs and their weights their own gradients, once those of all processes have been added."""
        for block in self.blocks:
            block.linear.layer.split_gradient()


class Linear:
    """x [rows, shards, groups * inputs] times weight [groups, outputs, inputs], plus a bias of as many values.

    Members that read the same input are one group.
    """

    def __init__(self, layer: Members, joint: Joint) -> None:
        """Compute with the parameters of a layer."""
        self.layer, self.joint = layer, joint
        self.x = self.weight = torch.empty(0)  # of the forward pass that is to be followed by a backward pass

    def weights(self) -> Tensor:
        """Return the layer's weights as they are now, with the factors of their inputs [groups, outputs, inputs]."""
        weight = self.layer.scaled().detach()
        return weight.flatten(0, 1).unsqueeze(0) if self.layer.shared else weight

    def forward(self, x: Tensor) -> Tensor:
        """Return [rows, shards, groups * outputs]."""
        self.x, self.weight = x, self.weights()
        y = self.joint(product, (x,), (self.weight,))
        return y if self.layer.bias is None else y.add_(self.layer.bias.flatten())

    def backward(self, dy: Tensor, *, wanted: bool) -> Tensor | None:
        """Return the gradient of x where it is wanted, and leave those of the parameters in the layer.

        The gradient that is left at weights with factors is that of their products: see `split_gradient`.
        """
        weight, bias = self.layer.weight, self.layer.bias
        weight.grad = self.joint(weight_gradient, (dy, self.x), (self.weight,), added).view_as(weight)
        if bias is not None:
            bias.grad = pairwise(total(dy)).view_as(bias)
        return self.joint(product_back, (dy,), (self.weight,)) if wanted else None


class Hidden:
    """A block: linear, batch norm over the shards of all processes, ReLU and dropout.

    With dropout, what is kept is multiplied by r = 1 / (1 - p): gamma and beta are on the way there, since r is positive.
    """

    def __init__(self, block: Block, group: Group, joint: Joint) -> None:
        """Compute with the parameters of a block."""
        self.linear, self.norm, self.dropout = Linear(block.linear, joint), block.norm, block.dropout
        self.group, self.joint, self.ratio = group, joint, block.dropout.ratio
        self.rows = 0
        self.z = self.y = self.mean = self.scale = torch.empty(0)  # of the forward pass, as above

    def forward(self, x: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Return [rows, shards, groups * outputs], and update the running statistics as torch's own batch norm does."""
        gamma, beta = self.norm.weight, self.norm.bias
        self.z = z = self.linear.forward(x)
        self.rows = self.group.size * z.shape[0] * z.shape[1]
        own = pairwise(self.joint(moments, (z,)).transpose(0, 1), merge_moments)
        self.mean, variance = self.group.merge(own, merge_moments)
        _update(self.norm, self.mean, variance, self.rows)
        self.scale = torch.rsqrt(variance + self.norm.eps)
        factor = self.scale * gamma * self.ratio if self.norm.affine else self.scale * self.ratio
        offset = beta * self.ratio - self.mean * factor if self.norm.affine else self.mean * -factor
        self.y = self.dropout.mask_(self.joint(rectified, (z,), (factor, offset)), generators)
        return self.y

    def backward(self, dy: Tensor, *, wanted: bool) -> Tensor | None:
        """Return the gradient of x where it is wanted, and leave those of the parameters in the block."""
        gamma, beta = self.norm.weight, self.norm.bias
        d = torch.ops.aten.threshold_backward.grad_input(
            dy, self.y, 0.0, grad_input=dy
        )  # y is 0 where x was dropped too
        sums = self.joint(norm_sums, (d, self.z), (self.mean,)).mul_(self.ratio)
        sums[0].mul_(self.scale)
        own = pairwise(sums.transpose(0, 1))  # d gamma, d beta [2, channels]
        d_gamma, d_beta = self.group.merge(own) / self.rows
        height = self.scale * gamma if self.norm.affine else self.scale
        slope = height * self.scale * -d_gamma
        offset = self.mean * -slope - height * d_beta
        if self.norm.affine:
            gamma.grad, beta.grad = own
        dz = self.joint(norm_gradient, (d, self.z), (height * self.ratio, slope, offset))
        return self.linear.backward(dz, wanted=wanted)


def product(x: Tensor, weight: Tensor) -> Tensor:
    """Return x [rows, shards, groups * inputs] times weight [groups, outputs, inputs]: [rows, shards, groups * outputs]."""
    groups, outputs, inputs = weight.shape
    y = x.new_empty(*x.shape[:2], groups * outputs)
    left, result = x.view(-1, groups, inputs).transpose(0, 1), y.view(-1, groups, outputs).transpose(0, 1)
    torch.bmm(left, weight.mT, out=result)
    return y


def product_back(dy: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of x, given that of the product."""
    return product(dy, weight.mT)


def weight_gradient(dy: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of the weight, summed over the shards in the order of the tree.

    Of a large weight, the product of every second shard is added where that of the one before it was written: a sum of its
    own would be one more pass over memory. A small one, such as the head's, takes less time than its calls do.
    """
    groups, outputs, inputs = weight.shape
    rows, shards = dy.shape[:2]
    if weight.numel() < SMALL_VALUES:
        left, right = dy.view(rows, -1, outputs).permute(1, 2, 0), x.view(rows, -1, inputs).transpose(0, 1)
        return pairwise(torch.bmm(left, right).view(shards, groups, outputs, inputs))
    lefts = dy.view(rows, shards, groups, outputs).permute(1, 2, 3, 0).unbind()
    rights = x.view(rows, shards, groups, inputs).permute(1, 2, 0, 3).unbind()

    def pair(first: int) -> Tensor:
        total = torch.empty_like(weight)
        for shard in range(first, min(first + 2, shards)):
            torch.baddbmm(total, lefts[shard], rights[shard], beta=shard - first, out=total)
        return total

    return tree_sum(pair(first) for first in range(0, shards, 2))


def moments(z: Tensor) -> Tensor:
    """Return means and biased variances over rows [rows, shards, channels]: [2, shards, channels]."""
    return torch.stack(torch.batch_norm_update_stats(z.view(len(z), -1), None, None, 0.0)).view(2, *z.shape[1:])


def rectified(z: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
    """Return max(z factor + offset, 0), both by channel."""
    return torch.addcmul(offset, z, factor).relu_()


def norm_sums(dy: Tensor, z: Tensor, mean: Tensor) -> Tensor:
    """Return the sums of dy (z - mean) and of dy over rows [rows, shards, channels]: [2, shards, channels]."""
    return torch.stack([(z - mean).mul_(dy).sum(dim=0), dy.sum(dim=0)])


def norm_gradient(dy: Tensor, z: Tensor, height: Tensor, slope: Tensor, offset: Tensor) -> Tensor:
    """Return height dy + slope z + offset, all three by channel; it takes the place of z."""
    return torch.addcmul(offset, z, slope, out=z).addcmul_(dy, height)


def scattered(dy: Tensor, codes: Tensor, table: Tensor) -> Tensor:
    """Return the gradient of an embedding table for each shard [1, shards, codes, dimensions]."""
    count, shards = len(table), codes.shape[1]
    numbers = codes + count * torch.arange(shards, device=codes.device)  # a table of its own for each shard
    sums: Tensor = torch.ops.aten.embedding_dense_backward(dy, numbers, count * shards, -1, False)
    return sums.view(1, shards, *table.shape)


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
    unbiased = variance * (rows / (rows - 1))  # as torch's running variance
    torch._foreach_lerp_([norm.running_mean, norm.running_var], [mean, unbiased], momentum)
