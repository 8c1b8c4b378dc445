"""Batch norm from its formulas, in NumPy: the page to learn it from. Torch is held to every step of it.

Ioffe, Szegedy, "Batch Normalization" (2015), algorithms 1 and 2.
"""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

ROWS, CHANNELS, STEPS = 12, 5, 6


@dataclass
class BatchNorm:
    """Normalises each channel of x [rows, channels] to mean 0 and variance 1, then scales and shifts it."""

    gamma: np.ndarray  # [channels] learnt scale
    beta: np.ndarray  # [channels] learnt shift
    running_mean: np.ndarray  # [channels] for inference
    running_var: np.ndarray  # [channels] for inference, unbiased
    eps: float  # keeps the root away from 0 where a channel is constant
    momentum: float  # weight of the newest batch in the running statistics

    def train(self, x: np.ndarray) -> np.ndarray:
        """One training step: normalise by the batch's own statistics and remember some of them."""
        n = len(x)
        mean = x.sum(axis=0) / n
        var = ((x - mean) ** 2).sum(axis=0) / n  # biased: divided by n
        unbiased = ((x - mean) ** 2).sum(axis=0) / (n - 1)  # what the running variance averages
        self.running_mean = (1 - self.momentum) * self.running_mean + self.momentum * mean
        self.running_var = (1 - self.momentum) * self.running_var + self.momentum * unbiased
        normalised = (x - mean) / np.sqrt(var + self.eps)
        return self.gamma * normalised + self.beta

    def infer(self, x: np.ndarray) -> np.ndarray:
        """Inference: frozen statistics, so that no row depends on the others. Affine in x, hence it folds."""
        normalised = (x - self.running_mean) / np.sqrt(self.running_var + self.eps)
        return self.gamma * normalised + self.beta

    def gradients(self, x: np.ndarray, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Gradients of a loss by x, gamma and beta, given its gradient dy by the output of `train`."""
        mean, var = x.mean(axis=0), x.var(axis=0)
        normalised = (x - mean) / np.sqrt(var + self.eps)
        dgamma, dbeta = (dy * normalised).sum(axis=0), dy.sum(axis=0)
        # The batch's mean and variance depend on every row: what all rows share is taken off each row's gradient.
        shared = dbeta + normalised * dgamma
        dx = self.gamma / np.sqrt(var + self.eps) * (dy - shared / len(x))
        return dx, dgamma, dbeta


def pair(momentum: float, eps: float, *, affine: bool) -> tuple[BatchNorm, nn.BatchNorm1d]:
    """Return the reference and torch's layer with equal parameters, float64."""
    layer = nn.BatchNorm1d(CHANNELS, eps=eps, momentum=momentum, affine=affine).double()
    random = np.random.default_rng(0)
    gamma, beta = np.ones(CHANNELS), np.zeros(CHANNELS)
    if affine:
        gamma, beta = random.normal(1, 0.3, CHANNELS), random.normal(0, 1, CHANNELS)
        layer.load_state_dict({"weight": torch.tensor(gamma), "bias": torch.tensor(beta)}, strict=False)
    return BatchNorm(gamma, beta, np.zeros(CHANNELS), np.ones(CHANNELS), eps, momentum), layer


def batches() -> list[np.ndarray]:
    """Return a few batches whose mean and spread differ by channel and from batch to batch."""
    random = np.random.default_rng(1)
    return [random.normal(step, 1.0 + np.arange(CHANNELS), (ROWS, CHANNELS)) for step in range(STEPS)]


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("momentum, eps", [(0.1, 1e-5), (0.01, 1e-3), (1.0, 1e-5)])
def test_training_steps(momentum: float, eps: float, *, affine: bool) -> None:
    """Each training step normalises by the batch's biased variance and moves the running statistics as torch does."""
    reference, layer = pair(momentum, eps, affine=affine)
    layer.train()
    for x in batches():
        found = layer(torch.tensor(x)).detach().numpy()
        np.testing.assert_allclose(found, reference.train(x), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(layer.running_mean.numpy(), reference.running_mean, rtol=1e-12)
        np.testing.assert_allclose(layer.running_var.numpy(), reference.running_var, rtol=1e-12)


@pytest.mark.parametrize("affine", [True, False])
def test_inference(*, affine: bool) -> None:
    """Inference uses the running statistics, and a row's result is the same alone and among others."""
    reference, layer = pair(0.1, 1e-5, affine=affine)
    for x in batches():
        layer(torch.tensor(x))
        reference.train(x)
    layer.eval()
    x = batches()[2]
    np.testing.assert_allclose(layer(torch.tensor(x)).detach().numpy(), reference.infer(x), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(reference.infer(x[3:4]), reference.infer(x)[3:4])


def test_training_depends_on_the_batch() -> None:
    """In training a row's result changes with its companions, which is why inference needs other statistics."""
    reference, _ = pair(0.1, 1e-5, affine=True)
    x = batches()[0]
    assert not np.allclose(reference.train(x)[:1], reference.train(x[:6])[:1])


def test_gradients() -> None:
    """The gradients by input, gamma and beta are torch's."""
    reference, layer = pair(0.1, 1e-5, affine=True)
    x, dy = batches()[1], np.random.default_rng(2).normal(size=(ROWS, CHANNELS))
    given = torch.tensor(x, requires_grad=True)
    layer.train()(given).backward(torch.tensor(dy))
    for found, wanted in zip((given.grad, layer.weight.grad, layer.bias.grad), reference.gradients(x, dy), strict=True):
        assert found is not None
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-10, atol=1e-12)


def test_a_constant_channel() -> None:
    """A channel without variance normalises to beta: eps keeps the root from 0."""
    reference, layer = pair(0.1, 1e-5, affine=True)
    x = np.full((ROWS, CHANNELS), 3.0)
    np.testing.assert_allclose(reference.train(x), np.broadcast_to(reference.beta, x.shape), atol=1e-12)
    np.testing.assert_allclose(layer(torch.tensor(x)).detach().numpy(), reference.train(x), atol=1e-9)
