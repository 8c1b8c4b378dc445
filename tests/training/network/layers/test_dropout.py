import pytest
import torch

from batchproof.training.network.layers.dropout import LEVELS, Dropout

ONES = torch.ones(1_001, 997)  # rows * columns is no multiple of four


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.95])
def test_values_are_dropped_with_their_probability(share: float) -> None:
    """Within five standard errors the share is dropped, the others are 1 / (1 - p), and the mean stays 1."""
    torch.manual_seed(0)
    found = Dropout(share)(ONES)
    dropped = float((found == 0).double().mean())
    assert abs(dropped - share) < 5 * (share * (1 - share) / ONES.numel()) ** 0.5 + 0.5 / LEVELS
    assert torch.allclose(found[found != 0], torch.tensor(1 / (1 - share)), rtol=1e-3)
    assert abs(float(found.double().mean()) - 1) < 5 * (share / (1 - share) / ONES.numel()) ** 0.5


def test_draws_of_one_word_are_independent() -> None:
    """The four values that share a 64-bit draw are dropped together as rarely as any others: share^2 of the time."""
    torch.manual_seed(1)
    off = (Dropout(0.5)(torch.ones(400_000)) == 0).double().view(-1, 4)
    both = off.T @ off / len(off)
    assert torch.allclose(both.float(), torch.full((4, 4), 0.25) + 0.25 * torch.eye(4), atol=0.01)


def test_nothing_is_dropped_where_nothing_should_be() -> None:
    """Eval mode and a share of 0 hand the very values through."""
    x = torch.randn(5, 3)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x


def test_the_gradient_is_masked_alike() -> None:
    """A dropped value gets no gradient, another one the scale."""
    x = torch.randn(50, 4, requires_grad=True)
    torch.manual_seed(2)
    found = Dropout(0.5)(x)
    found.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.where(found == 0, 0.0, 2.0))


def test_a_generator_of_its_own_leaves_torchs_alone() -> None:
    """The same generator state gives the same mask, and torch's own generator does not move."""
    dropout, before = Dropout(0.5), torch.get_rng_state()
    masks = []
    for _ in range(2):
        dropout.generator = torch.Generator().manual_seed(3)
        masks.append(dropout(ONES))
    assert torch.equal(*masks)
    assert torch.equal(before, torch.get_rng_state())


def test_relu_and_mask_have_the_bits_of_one_after_the_other() -> None:
    """One function gives the values and the gradient that torch's ReLU and a product with the mask give."""
    x, dy = torch.randn(33, 7, requires_grad=True), torch.randn(33, 7)
    dropout = Dropout(0.3)
    results = []
    for is_one in (True, False):
        dropout.generator = torch.Generator().manual_seed(5)
        y = dropout(x) if is_one else torch.relu(x) * dropout(torch.ones(33, 7))
        results += [y.detach(), *torch.autograd.grad(y, x, dy)]
    assert torch.equal(results[0], results[2])
    assert torch.equal(results[1], results[3])
    assert (results[0] > 0).any()
