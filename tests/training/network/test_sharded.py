"""The sharded forward and backward pass is the network's own, up to the order of additions."""

import pytest
import torch
from torch import Tensor

from batchproof.training.distributed.group import Group
from batchproof.training.network.network import Network, NetworkSettings
from batchproof.training.network.sharded import ShardedNetwork, merge_moments

SHARDS, ROWS = 8, 5


def made(settings: NetworkSettings) -> tuple[Network, Tensor, Tensor]:
    """Return a float64 network in training mode, with x and codes of a batch [rows, shards, ...]."""
    random = torch.Generator().manual_seed(1)
    network = Network(3, [(4, 2), (6, 3)], 2, settings, random).double().train()
    x = torch.randn(ROWS, SHARDS, 3, generator=random, dtype=torch.float64)
    return network, x, torch.randint(0, 4, (ROWS, SHARDS, 2), generator=random)


@pytest.mark.parametrize(
    "settings",
    [
        NetworkSettings(widths=(7, 5), dropout=0.0),
        NetworkSettings(widths=(7, 5), members=3, dropout=0.0),
        NetworkSettings(widths=(16,), members=2, dropout=0.0, affine=False),
        NetworkSettings(widths=(), members=2, dropout=0.0),
        NetworkSettings(widths=(7, 5), members=2, dropout=0.0, input_rate=6.0),
    ],
)
def test_scores_gradients_and_statistics_are_those_of_torch(settings: NetworkSettings) -> None:
    """Scores, every gradient and the running statistics agree with torch's batch norm over the whole batch, in float64."""
    ours, x, codes = made(settings)
    theirs, _, _ = made(settings)
    shards = ShardedNetwork(ours, Group(0, 1))
    sharded = shards.scores(x, codes, [])
    whole = theirs.member_scores(x.flatten(0, 1), codes.flatten(0, 1))
    target = torch.linspace(-1, 1, whole.numel(), dtype=torch.float64).view_as(whole)
    shards.backward(target.view_as(sharded))
    shards.split_gradient()
    (whole * target).sum().backward()  # type: ignore[no-untyped-call]

    torch.testing.assert_close(sharded.flatten(0, 1), whole, rtol=0, atol=1e-12)
    for (name, mine), (_, others) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        torch.testing.assert_close(mine.grad, others.grad, rtol=1e-10, atol=1e-12, msg=name)
    for (name, statistic), (_, other) in zip(ours.named_buffers(), theirs.named_buffers(), strict=True):
        if statistic.is_floating_point():
            torch.testing.assert_close(statistic, other, rtol=1e-12, atol=1e-14, msg=name)


def test_moments_of_halves() -> None:
    """Means and variances of two halves merge to those of the whole."""
    rows = torch.randn(2, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1e6
    parts = torch.stack([rows.mean(dim=1), rows.var(dim=1, correction=0)], dim=1)  # [2, 2, channels]
    mean, variance = merge_moments(parts[:1], parts[1:])[0]
    torch.testing.assert_close(mean, rows.flatten(0, 1).mean(dim=0))
    torch.testing.assert_close(variance, rows.flatten(0, 1).var(dim=0, correction=0))


def test_masks_follow_from_the_shard() -> None:
    """A shard's dropout mask is drawn by its own generator: with others beside it or alone, it is the same."""
    network, _, _ = made(NetworkSettings(widths=(64,), dropout=0.5))
    dropout = network.blocks[0].get_submodule("dropout")

    def masked(shards: range) -> Tensor:
        generators = [torch.Generator().manual_seed(shard) for shard in shards]
        result: Tensor = dropout.mask_(torch.ones(ROWS, len(shards), 64), generators)  # type: ignore[operator]
        return result

    together = masked(range(SHARDS))
    assert all(torch.equal(masked(range(n, n + 1))[:, 0], together[:, n]) for n in range(SHARDS))
    assert not torch.equal(together[:, 0], together[:, 1])
    assert set(together.flatten().tolist()) == {0.0, 1.0}
    assert dropout.ratio == 2.0
