"""A call for several shards gives the bits of one call a shard: where it would not, there is one call a shard."""

import pytest
import torch
from torch import Tensor

from batchproof.training.distributed.joint import Call, Combine, Joint, added, one_by_one, same_bits, side_by_side
from batchproof.training.network import sharded

SHARDS = 8


def drawn(*shape: int, seed: int = 3) -> Tensor:
    """Return values of very different sizes, some of them zero: not those that a comparison draws."""
    random = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=random) * torch.exp2(torch.randint(-75, 30, shape, generator=random))
    return values * (torch.rand(shape, generator=random) > 0.1)


def counted(x: Tensor) -> Tensor:
    """Return values that depend on how many shards a call gets."""
    return x + x.shape[1]


def added_up(x: Tensor) -> Tensor:
    """Return sums over rows in float32, which depend on the order."""
    return x.sum(dim=0, keepdim=True)


def test_calls_that_do_not_agree_are_made_for_each_shard() -> None:
    """What depends on the number of shards in a call is computed as on a process that has one."""
    joint, x = Joint(), drawn(5, SHARDS, 3)
    assert torch.equal(joint(counted, (x,)), x + 1)
    assert list(joint.agrees.values()) == [False]


def test_calls_that_agree_are_joint() -> None:
    """A copy has the same bits however many shards it is made of, so it is one call; a shape is compared once."""
    calls: list[int] = []

    def copied(x: Tensor) -> Tensor:
        calls.append(x.shape[1])
        return x.clone()

    joint, x = Joint(), drawn(2_000, SHARDS, 3)
    assert torch.equal(joint(copied, (x,)), x)
    assert calls == [SHARDS, *[1] * SHARDS, SHARDS]
    joint(copied, (x,))
    assert calls[-1] == SHARDS
    assert len(calls) == SHARDS + 3


def test_a_shard_alone_needs_no_comparison() -> None:
    """A process with one shard makes the call that all others are compared with."""
    joint = Joint()
    assert torch.equal(joint(counted, (drawn(5, 1, 3),)), drawn(5, 1, 3) + 1)
    assert not joint.agrees


@pytest.mark.parametrize("shards", [2, 4, 8])
@pytest.mark.parametrize(
    "rows, groups, inputs, outputs", [(32, 1, 60, 64), (7, 2, 33, 17), (16, 3, 16, 1), (1, 1, 5, 9)]
)
def test_agreement_carries_over_to_other_values(shards: int, rows: int, groups: int, inputs: int, outputs: int) -> None:
    """Products, moments, sums and gradients of any values have the bits of one call a shard, in shapes of every kind."""
    joint = Joint()
    x, weight = drawn(rows, shards, groups * inputs), drawn(groups, outputs, inputs, seed=4)
    z, dy = drawn(rows, shards, groups * outputs, seed=5), drawn(rows, shards, groups * outputs, seed=6)
    channels = tuple(drawn(groups * outputs, seed=seed) for seed in (7, 8, 9))
    calls: list[tuple[Call, tuple[Tensor, ...], tuple[Tensor, ...], Combine]] = [
        (sharded.product, (x,), (weight,), side_by_side),
        (sharded.product_back, (dy,), (weight,), side_by_side),
        (sharded.weight_gradient, (dy, x), (weight,), added),
        (sharded.moments, (z,), (), side_by_side),
        (sharded.rectified, (z,), channels[:2], side_by_side),
        (sharded.norm_sums, (dy, z), channels[:1], side_by_side),
        (sharded.norm_gradient, (dy, z), channels, side_by_side),
    ]
    for call, cut, whole, combine in calls:
        alone = one_by_one(call, [each.clone() for each in cut], whole, combine)
        assert same_bits(joint(call, [each.clone() for each in cut], whole, combine), alone), call
    assert len(joint.agrees) == len(calls)


def test_a_sum_in_another_order_is_noticed() -> None:
    """Two orders of additions differ somewhere among the values that are compared."""

    def by_halves(x: Tensor) -> Tensor:
        half = len(x) // 2 if x.shape[1] > 1 else len(x)
        return added_up(x[:half]) + added_up(x[half:]) if half < len(x) else added_up(x)

    joint, x = Joint(), drawn(64, SHARDS, 1)
    found = joint(by_halves, (x,))
    assert list(joint.agrees.values()) == [False]
    assert same_bits(found, one_by_one(added_up, [x], (), side_by_side))
