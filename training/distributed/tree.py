"""The fixed order in which the results of shards are merged: pairwise, by number, as the leaves of a balanced binary tree.

    ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7))

Float addition is not associative, so an order has to be fixed; this one can be cut. Two processes hold the halves of the
tree, four its quarters, eight its leaves, and each merges its own part before they communicate: the additions are
the same ones, whichever process carries them out. (A pairwise sum has the smaller error bound too: Higham, Accuracy and
Stability of Numerical Algorithms, section 4.2.)
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

SHARDS = 8  # of a batch, a power of two: the leaves of the tree


def pairwise(stack: Tensor, merge: Callable[[Tensor, Tensor], Tensor] = torch.add) -> Tensor:
    """Merge the entries of a stack [n, ...] by number, n a power of two; `merge` gets two stacks [n / 2, ...]."""
    while len(stack) > 1:
        stack = merge(stack[0::2], stack[1::2])
    return stack[0]


def total(rows: Tensor) -> Tensor:
    """Return the pairwise sum of any number of rows [n, ...], filled up with zeros to a power of two."""
    filled = rows.new_zeros(1 << (len(rows) - 1).bit_length(), *rows.shape[1:])
    filled[: len(rows)] = rows
    return pairwise(filled)


def tree_sum(parts: Iterable[Tensor]) -> Tensor:
    """Return the pairwise sum of a power of two of tensors, which are overwritten; few of them are held at a time."""
    levels: list[Tensor] = []
    for number, part in enumerate(parts, 1):
        total, remaining = part, number
        while remaining % 2 == 0:
            total = levels.pop().add_(total)
            remaining //= 2
        levels.append(total)
    (total,) = levels
    return total
