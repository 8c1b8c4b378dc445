"""Fold a trained torch network into `Folded`: plain float64 arrays by member, without batch norm."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

from batchproof.training.network import batchnorm
from batchproof.training.network.fold import Folded, Layer, Member, Norm, Output, fold_block, fold_head
from batchproof.training.network.network import Block, Network
from batchproof.training.network.tensors import HeldRows, in_one


def fold_network(frozen: Network, embedded: Sequence[int], output: Output, temperature: float = 1.0) -> Folded:
    """Fold a network whose batch norms hold their final statistics (`batchnorm.recompute`).

    `embedded` are the columns of the categorical input that its embeddings read. The members' scores are summed by
    the exporters, so each last layer is divided by members · temperature.
    """
    members = frozen.settings.members
    weight, bias = _array(frozen.head.weight), _array(frozen.head.bias)  # [members, out, in], [members, out]
    heads = [
        fold_head(weight[member], bias[member], output.task, divisor=members * temperature) for member in range(members)
    ]
    folded = tuple(
        Member((*(fold_member_block(cast(Block, block), member) for block in frozen.blocks), heads[member]))
        for member in range(members)
    )
    tables = tuple(_array(table.get_parameter("weight")) for table in frozen.embeddings)
    return Folded(tuple(int(column) for column in embedded), tables, folded, output)


def fold_member_block(block: Block, member: int) -> Layer:
    """Fold one block of one member, whose channels are contiguous in the block's batch norm."""
    weight = _array(block.linear.scaled())[member]  # [out, in]
    channels = slice(member * len(weight), (member + 1) * len(weight))
    norm = block.norm
    gamma, beta = (_array(part)[channels] if norm.affine else None for part in (norm.weight, norm.bias))
    return fold_block(
        weight, Norm(_array(norm.running_mean)[channels], _array(norm.running_var)[channels], norm.eps, gamma, beta)
    )


@torch.no_grad()
def unfolded_scores(frozen: Network, rows: HeldRows) -> np.ndarray:
    """Return the float64 network's averaged scores [rows, outputs]: torch's batch norm in eval mode."""
    pieces = (frozen(x, codes) for x, codes in batchnorm.batches(rows, batchnorm.BATCH_ROWS))
    return in_one(pieces, len(rows.y)).numpy()


def _array(tensor: Tensor | None) -> np.ndarray:
    assert tensor is not None, "the layer has this parameter"
    return tensor.detach().cpu().double().numpy()
