"""The order of additions is one tree, wherever it is cut."""

import pytest
import torch

from batchproof.training.distributed.tree import SHARDS, pairwise, tree_sum

PARTS = torch.randn(SHARDS, 1000, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_every_number_of_processes_adds_in_the_same_order(size: int) -> None:
    """Merged by each process first, and then between them, the sum has the bits of the whole tree."""
    own = [pairwise(part) for part in PARTS.chunk(size)]
    assert torch.equal(pairwise(torch.stack(own)), pairwise(PARTS))


def test_the_tree_is_not_the_order_of_a_loop() -> None:
    """On these values another order has other bits, so that the tests of equal bits can fail."""
    loop = PARTS[0].clone()
    for part in PARTS[1:]:
        loop += part
    assert not torch.equal(loop, pairwise(PARTS))


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_one_after_another(count: int) -> None:
    """Parts that come one at a time are added in the order of the tree."""
    assert torch.equal(tree_sum(part.clone() for part in PARTS[:count]), pairwise(PARTS[:count]))
