import numpy as np
import pytest
import torch
from sklearn import metrics as peers

from batchproof.training.goal import RegressionLoss
from batchproof.training.network import objective as targets


def test_values_are_standardised() -> None:
    """Regression trains towards zero mean and unit spread; a constant target keeps its unit."""
    y = np.array([10.0, 20.0, 30.0])
    target = targets.fit("regression", y, 0)
    assert target.encode(y).double().numpy() == pytest.approx((y - 20.0) / np.std(y))
    assert targets.fit("regression", np.full(3, 7.0), 0).std == 1.0


def test_binary_loss_is_the_two_class_loss() -> None:
    """One log-odds L costs what the scores (0, L) cost, with unknown labels too."""
    scores, y = torch.randn(20, 1, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 2
    pairs = torch.cat([torch.zeros(20, 1), scores], dim=1)
    one, two = targets.fit("binary", y.numpy(), 2), targets.fit("multiclass", y.numpy(), 2)
    assert torch.allclose(one.losses(scores, y), two.losses(pairs, y))
    assert torch.allclose(one.losses(scores, y, 0.2), two.losses(pairs, y, 0.2))


def test_held_out_losses_count_one_row_of_unknown_class() -> None:
    """Endless certainty costs something on a small validation set, and next to nothing on a large one."""
    target = targets.Objective("binary", 1)
    sure = [float(target.held_losses(torch.full((rows, 1), 20.0), torch.ones(rows)).mean()) for rows in (9, 9_999)]
    assert sure == pytest.approx([1.0, 0.001], rel=1e-3)


@pytest.mark.parametrize("loss", ["poisson", "gamma"])
def test_deviances(loss: RegressionLoss) -> None:
    """The loss of a mean is the deviance of scikit-learn, in units of the training rows' mean; a count may be 0."""
    random = np.random.default_rng(0)
    y = random.gamma(1.0, 50.0, 40) if loss == "gamma" else random.poisson(1.0, 40).astype(np.float64)
    objective = targets.fit("regression", y, 0, loss=loss)
    scores = torch.from_numpy(random.normal(size=(40, 1)))
    means = objective.values(scores).numpy()
    peer = peers.mean_gamma_deviance if loss == "gamma" else peers.mean_poisson_deviance

    assert means == pytest.approx(np.exp(scores[:, 0].numpy()))
    assert float(objective.losses(scores, objective.encode(y)).mean()) == pytest.approx(peer(y / y.mean(), means))


@pytest.mark.parametrize("loss", ["poisson", "gamma"])
def test_no_score_makes_a_loss_infinite(loss: RegressionLoss) -> None:
    """However far off a score is, its loss is finite in float32, for the least value too."""
    objective = targets.fit("regression", np.array([1e-30, 1e30]), 0, loss=loss)
    far = torch.tensor([[-1e30], [-1e30], [1e30], [1e30]])
    assert objective.losses(far, objective.encode(np.array([1e-30, 1e30] * 2))).isfinite().all()
