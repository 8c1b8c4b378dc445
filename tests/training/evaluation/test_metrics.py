"""Metrics are scikit-learn's."""

import numpy as np
import pytest
from sklearn import metrics as reference

from batchproof.training.evaluation.metrics import OF_VALUES, auc, classification, regression


@pytest.mark.parametrize("classes", [2, 5])
def test_classification(classes: int) -> None:
    """Log loss, accuracy and, of two classes, the area under the ROC curve."""
    random = np.random.default_rng(0)
    p = random.dirichlet(np.ones(classes), 300).astype(np.float32)
    y = np.concatenate([np.arange(classes), random.integers(0, classes, 300 - classes)])
    found = classification(p, y, np.full(classes, 1 / classes))
    wide = p.astype(np.float64)
    wanted = reference.log_loss(y, wide / wide.sum(1, keepdims=True))
    assert found["log_loss"] == pytest.approx(wanted, rel=1e-5)
    assert found["accuracy"] == reference.accuracy_score(y, p.argmax(1))
    assert found["constant_log_loss"] == pytest.approx(np.log(classes))
    if classes == 2:
        assert found["auc"] == pytest.approx(reference.roc_auc_score(y, p[:, 1]))


def test_auc_with_ties() -> None:
    """Tied scores count half."""
    assert auc(np.array([0.5, 0.5, 0.5, 0.5]), np.array([True, False, True, False])) == 0.5


def test_a_certain_mistake_is_finite() -> None:
    """A probability of 0 for the true class costs much, but not infinity."""
    assert classification(np.array([[1.0, 0.0]]), np.array([1]), np.array([0.5, 0.5]))["log_loss"] < 40


def test_regression() -> None:
    """RMSE, MAE and R², and the constant guess beside them."""
    random = np.random.default_rng(0)
    y, found_values = random.normal(5, 2, 100), random.normal(5, 2, 100)
    found = regression(found_values, y, 5.0, OF_VALUES["squared_error"])
    assert found["rmse"] == pytest.approx(reference.root_mean_squared_error(y, found_values))
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(y, found_values))
    assert found["r2"] == pytest.approx(reference.r2_score(y, found_values))
    assert found["constant_rmse"] == pytest.approx(reference.root_mean_squared_error(y, np.full(100, 5.0)))


@pytest.mark.parametrize("objective", ["poisson", "gamma"])
def test_deviances(objective: str) -> None:
    """The deviance of means is scikit-learn's, and that of the constant guess stands beside it."""
    random = np.random.default_rng(0)
    means = random.gamma(2.0, 2.0, 100)
    y = random.poisson(means).astype(np.float64) if objective == "poisson" else random.gamma(2.0, means / 2.0)
    found = regression(means, y, 4.0, OF_VALUES[objective])
    peer = reference.mean_poisson_deviance if objective == "poisson" else reference.mean_gamma_deviance
    assert found[f"{objective}_deviance"] == pytest.approx(peer(y, means))
    assert found[f"constant_{objective}_deviance"] == pytest.approx(peer(y, np.full(100, 4.0)))
    assert found["rmse"] > 0
