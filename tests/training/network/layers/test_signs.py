"""Signs of weights: which ones a network keeps, and that its scores are monotone for any weights that have them."""

import numpy as np
import pytest
import torch

from batchproof.training.network.layers.signs import kinds_of, project
from batchproof.training.network.network import Network, NetworkSettings

DIRECTIONS = np.asarray([1, -1, 0], np.int8)  # of the columns of x; an embedding follows, without one


def network(widths: tuple[int, ...], *, affine: bool = True) -> Network:
    settings = NetworkSettings(widths=widths, members=2, dropout=0.0, affine=affine)
    return Network(3, [(4, 2)], 2, settings, torch.Generator().manual_seed(1), DIRECTIONS)


@torch.no_grad()
def disturbed(found: Network, seed: int) -> Network:
    """Return the network with random weights, gammas below 0 among them, moved to the nearest allowed ones."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in found.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    for block in found.blocks:
        block.get_buffer("norm.running_mean").copy_(torch.randn(len(block.norm.running_mean), generator=generator))
        block.get_buffer("norm.running_var").uniform_(0.1, 3.0, generator=generator)
    project(found.limits())
    return found.double().eval()


@pytest.mark.parametrize("widths", [(), (1,), (2, 1), (8, 6), (7, 5, 3)])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_scores_are_monotone_for_any_weights_with_the_signs(
    widths: tuple[int, ...], seed: int, *, affine: bool
) -> None:
    """However long the path and whatever the free inputs are, no score falls with direction 1 or rises with -1."""
    found = disturbed(network(widths, affine=affine), seed)
    x = torch.randn(200, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    codes = torch.arange(200).remainder(4)[:, None]
    for column, direction in ((0, 1), (1, -1)):
        moved = x.clone()
        moved[:, column] += torch.rand(200, generator=torch.Generator().manual_seed(seed)).double()
        with torch.no_grad():
            gain = direction * (found(moved, codes) - found(x, codes))
        assert gain.min() >= -1e-12


def test_initial_weights_have_their_signs() -> None:
    """A new network is within its limits already, and none of its allowed weights is 0."""
    found = network((8, 6))
    before = [parameter.detach().clone() for parameter in found.parameters()]
    project(found.limits())
    assert all(torch.equal(old, new) for old, new in zip(before, found.parameters(), strict=True))
    for weight, low, high in found.limits():
        assert ((weight != 0.0) == ((low != 0.0) | (high != 0.0))).all()


def test_without_directions_nothing_is_limited() -> None:
    """A network without directions, or with zeros only, has no limits and the initial weights that it always had."""
    settings = NetworkSettings(widths=(5,), members=1)
    plain = Network(3, [], 1, settings, torch.Generator().manual_seed(1))
    zeros = Network(3, [], 1, settings, torch.Generator().manual_seed(1), np.zeros(3, np.int8))
    assert plain.limits() == zeros.limits() == []
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), zeros.parameters(), strict=True))


@pytest.mark.parametrize("width", range(1, 20))
@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_units_are_shared_out(width: int, share: float) -> None:
    """Every unit has a kind; at least one rises, rising and falling ones are as many or one more, and the share is free."""
    kinds = kinds_of(width, share)
    rising, falling, free = ((kinds == kind).sum() for kind in (1, -1, 0))
    assert len(kinds) == width
    assert rising >= 1
    assert 0 <= rising - falling <= 1
    assert free == int(width * share)
