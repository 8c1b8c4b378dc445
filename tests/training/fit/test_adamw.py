"""The optimiser's step: torch's own bits, and a state that continues."""

import pytest
import torch
from torch import nn

from batchproof.training.fit.adamw import AdamW

SHAPES = ((3, 5), (7,), (2, 4, 4))
STEPS = 12


def parameters() -> list[nn.Parameter]:
    drawn = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=drawn)) for shape in SHAPES]


def draw_gradients(step: int, *networks: list[nn.Parameter]) -> None:
    """Give the parameters of each network the gradients of this step."""
    drawn = torch.Generator().manual_seed(step)
    for group in zip(*networks, strict=True):
        gradient = torch.randn(group[0].shape, generator=drawn) * 10.0 ** (step % 5 - 3)
        for parameter in group:
            parameter.grad = gradient.clone()


def test_steps_have_the_bits_of_torchs_own_optimiser() -> None:
    """Parameters and moments are those of torch.optim.AdamW(fused=True), at a rate that changes with every step."""
    ours, theirs = parameters(), parameters()
    optimizer, reference = AdamW(ours, 2e-3, 0.1), torch.optim.AdamW(theirs, lr=2e-3, weight_decay=0.1, fused=True)
    for step in range(STEPS):
        optimizer.rate = reference.param_groups[0]["lr"] = 2e-3 * (step + 1)
        draw_gradients(step, ours, theirs)
        optimizer.step()
        reference.step()

    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    moments = {
        f"{at}.{name}": each for at, named in reference.state_dict()["state"].items() for name, each in named.items()
    }
    assert optimizer.state().keys() == moments.keys()
    assert all(torch.equal(moment, moments[key]) for key, moment in optimizer.state().items())


def test_a_saved_state_continues() -> None:
    """A new optimiser with the state of another takes the same next step."""
    first, second = parameters(), parameters()
    before = AdamW(first, 2e-3, 0.1)
    draw_gradients(0, first)
    before.step()
    with torch.no_grad():
        for mine, other in zip(second, first, strict=True):
            mine.copy_(other)
    after = AdamW(second, 2e-3, 0.1)
    after.restore({key: moment.clone() for key, moment in before.state().items()})
    draw_gradients(1, first, second)
    before.step()
    after.step()

    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("state", [{}, {"0.step": torch.zeros(3)}])
def test_another_networks_state_is_refused(state: dict[str, torch.Tensor]) -> None:
    """A moment that is missing or has another shape raises what a checkpoint's reader expects."""
    with pytest.raises((KeyError, RuntimeError)):
        AdamW(parameters(), 2e-3, 0.1).restore(state)


def test_forgotten_gradients_are_gone() -> None:
    """The next backward pass starts from no gradient, not from zeros."""
    held = parameters()
    draw_gradients(0, held)
    AdamW(held, 2e-3, 0.1).forget_gradients()
    assert [parameter.grad for parameter in held] == [None] * len(SHAPES)
