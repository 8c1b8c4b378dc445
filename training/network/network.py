"""The batch-norm MLP: blocks of Linear (no bias) -> BatchNorm1d -> ReLU -> Dropout, then a Linear head.

The members of an ensemble are trained side by side: their channels are concatenated, so that torch's own BatchNorm1d
normalises all of them, and they share no weight. Their scores are averaged, so every member is a plain network.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from batchproof.training.network.layers.dropout import Dropout
from batchproof.training.network.layers.signs import Limits, Signs, not_negative, reflect


@dataclass(frozen=True)
class NetworkSettings:
    """The shape of the network and the constants of its batch norm."""

    widths: tuple[int, ...] = (256, 256)  # hidden units a block
    members: int = 1
    dropout: float = 0.1
    eps: float = 1e-5  # added to the variance
    momentum: float = 0.1  # of the running statistics; population statistics replace them after training
    affine: bool = True  # gamma and beta
    input_rate: float = 0.0  # of the factor of each input, where weights have 1; 0: there are no factors


class PartialProduct(torch.autograd.Function):
    """x times a weight, where only the last columns of x need a gradient: embeddings, but not the encoded numbers.

    The gradient of all columns would be a third of the first layer's work.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, constant: int) -> Tensor:
        """Return [rows, outputs] for x [rows, inputs] and weight [outputs, inputs]."""
        ctx.save_for_backward(x, weight)
        ctx.constant = constant
        return functional.linear(x, weight)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, None]:
        """Return the gradients of x, with zeros in its first columns, and of the weight."""
        x, weight = ctx.saved_tensors
        dx = torch.zeros_like(x)
        torch.mm(dy, weight[:, ctx.constant :], out=dx[:, ctx.constant :])
        return dx, dy.t().mm(x), None


class Members(nn.Module):
    """One Linear for each member: [rows, members * inputs] -> [rows, members * outputs], member after member.

    The first layer's input, [rows, inputs], is the same for all members. Each of its columns may have a learnt factor, shared by
    all units (the scaling layer of Holzmüller, Grinsztajn, Steinwart 2024, "Better by Default"): a column that says nothing fades
    sooner than its weights would. Factors belong to the weights, so that folding leaves none.
    """

    def __init__(
        self,
        members: int,
        inputs: int,
        outputs: int,
        generator: torch.Generator | None = None,
        *,
        shared: bool,
        bias: bool,
        constant: int = 0,
        input_rate: float = 0.0,
    ) -> None:
        """Draw weights and bias uniformly within 1 / sqrt(inputs), as torch's Linear does.

        The first `constant` inputs need no gradient. With an `input_rate` each input has a factor, 1 at first, kept as a
        parameter so many times smaller: a step of AdamW, which is as long for all parameters, moves it so much further.
        """
        super().__init__()
        self.shared, self.constant = shared or members == 1, constant
        bound = inputs**-0.5
        weight = torch.empty(members, outputs, inputs).uniform_(-bound, bound, generator=generator)
        self.weight = nn.Parameter(weight)
        offset = torch.empty(members, outputs).uniform_(-bound, bound, generator=generator) if bias else None
        self.bias = None if offset is None else nn.Parameter(offset)
        self.input_rate = input_rate
        self.factor = nn.Parameter(torch.full((inputs,), 1.0 / input_rate)) if input_rate else None

    def scaled(self) -> Tensor:
        """Return the weights with the factors of their inputs [members, outputs, inputs]."""
        return self.weight if self.factor is None else self.weight * (self.factor * self.input_rate)

    @torch.no_grad()
    def split_gradient(self) -> None:
        """Turn the gradient of `scaled`, left at the weights, into those of weights and factors."""
        if self.factor is None:
            return
        gradient = self.weight.grad
        assert gradient is not None, "a backward pass came before"
        self.factor.grad = (gradient * self.weight).sum(dim=(0, 1)) * self.input_rate
        self.weight.grad = gradient * (self.factor * self.input_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Apply each member's weights to its own inputs."""
        members, outputs, inputs = self.weight.shape
        if self.shared:
            weight = self.scaled().reshape(members * outputs, inputs)
            if self.constant and x.requires_grad and self.bias is None:
                product: Tensor = PartialProduct.apply(x, weight, self.constant)  # type: ignore[no-untyped-call]
                return product
            return functional.linear(x, weight, None if self.bias is None else self.bias.reshape(-1))
        each = x.view(-1, members, inputs).transpose(0, 1)  # [members, rows, inputs]
        y = torch.bmm(each, self.weight.transpose(1, 2))  # [members, rows, outputs]
        if self.bias is not None:
            y = y + self.bias.unsqueeze(1)
        return y.transpose(0, 1).reshape(-1, members * outputs)


class Block(nn.Module):
    """Linear -> BatchNorm1d -> ReLU -> Dropout."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        settings: NetworkSettings,
        generator: torch.Generator | None = None,
        *,
        first: bool,
        constant: int = 0,
    ) -> None:
        """Make the block; a `first` block reads the input that all members share, whose `constant` first columns need no gradient."""
        super().__init__()
        self.linear = Members(
            settings.members,
            inputs,
            outputs,
            generator,
            shared=first,
            bias=False,
            constant=constant,
            input_rate=settings.input_rate if first else 0.0,
        )
        self.norm = nn.BatchNorm1d(
            settings.members * outputs, eps=settings.eps, momentum=settings.momentum, affine=settings.affine
        )
        self.dropout = Dropout(settings.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[rows, inputs] -> [rows, members * outputs]."""
        result: Tensor = self.dropout(self.norm(self.linear(x)))
        return result


class Network(nn.Module):
    """x and category codes -> scores.

    Channel m * width + c of `blocks[i].norm` is channel c of member m; `blocks[i].linear.scaled()` is
    [members, outputs, inputs], `head.weight` [members, outputs, width], `head.bias` [members, outputs].
    """

    def __init__(
        self,
        inputs: int,
        tables: Sequence[tuple[int, int]],
        outputs: int,
        settings: NetworkSettings,
        generator: torch.Generator | None = None,
        directions: np.ndarray | None = None,
    ) -> None:
        """Make a network for `inputs` columns of x and a table (codes, dimensions) for each embedded column.

        Initial weights come from `generator`, or from torch's own where it is None. `directions` [inputs] int8 are those of
        the columns of x: no score ever falls with one of direction 1, or rises with one of -1.
        """
        super().__init__()
        self.settings = settings
        self.outputs = outputs
        self.embeddings = nn.ModuleList(
            nn.Embedding(codes, dimensions, _weight=torch.randn(codes, dimensions, generator=generator))
            for codes, dimensions in tables
        )
        width = inputs + sum(dimensions for _, dimensions in tables)
        blocks = []
        for index, units in enumerate(settings.widths):
            is_first = index == 0
            blocks.append(Block(width, units, settings, generator, first=is_first, constant=inputs if is_first else 0))
            width = units
        self.blocks = nn.ModuleList(blocks)
        self.head = Members(settings.members, width, outputs, generator, shared=not blocks, bias=True)
        self.signs = None
        if directions is not None and directions.any():
            embedded = np.zeros(sum(dimensions for _, dimensions in tables), np.int8)
            self.signs = Signs.of(np.concatenate([directions, embedded]), settings.widths, outputs)
        reflect(self.limits())

    def limits(self) -> list[Limits]:
        """Return between which values parameters stay; none without directions."""
        if self.signs is None:
            return []
        weights = [*(block.get_parameter("linear.weight") for block in self.blocks), self.head.weight]
        limits = [self.signs.of_weight(layer, weight) for layer, weight in enumerate(weights)]
        factors = [
            module.factor for module in self.modules() if isinstance(module, Members) and module.factor is not None
        ]
        limits += [not_negative(factor) for factor in factors]
        if self.settings.affine:
            gammas = [block.get_parameter("norm.weight") for block in self.blocks]
            limits += [self.signs.of_gamma(layer, gamma) for layer, gamma in enumerate(gammas)]
        return limits

    def joined(self, x: Tensor, codes: Tensor | None) -> Tensor:
        """Return the first layer's input for x [rows, inputs] and codes [rows, embeddings] int64."""
        if codes is None or not len(self.embeddings):
            return x
        return torch.cat([x, *(table(codes[:, index]) for index, table in enumerate(self.embeddings))], dim=1)

    def member_scores(self, x: Tensor, codes: Tensor | None) -> Tensor:
        """Return the scores of each member [rows, members, outputs]."""
        hidden = self.joined(x, codes)
        for block in self.blocks:
            hidden = block(hidden)
        scores: Tensor = self.head(hidden)
        return scores.view(-1, self.settings.members, self.outputs)

    def forward(self, x: Tensor, codes: Tensor | None = None) -> Tensor:
        """Return the scores averaged over the members [rows, outputs]."""
        return self.member_scores(x, codes).mean(dim=1)


def dimensions(codes: int) -> int:
    """Return the width of the embedding of a column with `codes` codes: 4 to 24, growing with the fourth root."""
    return min(24, max(4, round(3 * math.sqrt(math.sqrt(codes)))))
