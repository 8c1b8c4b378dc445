"""What fits are chosen by: each metric is the mean of its shares, equal to scikit-learn's, with the right spread."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn import metrics as peers

from batchproof.training.fit.metric import SHARES, judged
from batchproof.training.goal import METRICS
from batchproof.training.network.objective import Objective, Task
from batchproof.training.network.tensors import Rows

ROWS = 400
Peer = Callable[
    [np.ndarray, np.ndarray, np.ndarray, np.ndarray], float
]  # y, predicted, probabilities, weights -> less is better


def brier(y: np.ndarray, _: np.ndarray, p: np.ndarray, w: np.ndarray) -> float:
    """Return the squared error of probabilities, summed over classes."""
    return float(np.average(np.square(p - np.eye(p.shape[1])[y]).sum(axis=1), weights=w))


PEERS: dict[str, Peer] = {
    "brier": brier,
    "accuracy": lambda y, c, p, w: 1 - peers.accuracy_score(y, c, sample_weight=w),
    "balanced_accuracy": lambda y, c, p, w: 1 - peers.balanced_accuracy_score(y, c, sample_weight=w),
    "f1": lambda y, c, p, w: 1 - peers.f1_score(y, c, average="macro" if p.shape[1] > 2 else "binary", sample_weight=w),
    "auc": lambda y, c, p, w: 1 - peers.roc_auc_score(y, p[:, 1], sample_weight=w),
}


def drawn(classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return codes y [rows], scores [rows, outputs] float32 with ties, and weights [rows] float32."""
    random = np.random.default_rng(seed)
    y = random.integers(0, classes, ROWS)
    scores = random.normal(size=(ROWS, 1 if classes == 2 else classes)).round(1)
    scores += 0.5 * y[:, None] if classes == 2 else np.eye(classes)[y]
    return y, scores.astype(np.float32), random.uniform(0.1, 3.0, ROWS).astype(np.float32)


def shares_of(metric: str, y: np.ndarray, scores: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Return the shares of the rows [rows]."""
    task: Task = "regression" if metric in ("rmse", "mae") else "binary" if scores.shape[1] == 1 else "multiclass"
    rows = Rows(torch.zeros(len(y), 1), None, torch.from_numpy(y), None if weight is None else 9 * torch.ones(len(y)))
    rows = rows._replace(row_weight=None if weight is None else torch.from_numpy(weight))
    return judged(Objective(task, scores.shape[1], metric=metric), torch.from_numpy(scores), rows).numpy()


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize(
    ("metric", "classes"), [(name, 2) for name in PEERS] + [(name, 4) for name in PEERS if name != "auc"]
)
def test_the_mean_is_the_metric(metric: str, classes: int, is_weighted: bool) -> None:  # noqa: FBT001 - a parameter
    """The mean of the shares is scikit-learn's metric, less being better; weights of classes do not count."""
    y, scores, weight = drawn(classes)
    both = np.concatenate([np.zeros((ROWS, 1)), scores], 1) if classes == 2 else scores.astype(np.float64)
    p = np.exp(both) / np.exp(both).sum(axis=1, keepdims=True)
    wanted = PEERS[metric](y, both.argmax(axis=1), p, weight if is_weighted else np.ones(ROWS))

    assert shares_of(metric, y, scores, weight if is_weighted else None).mean() == pytest.approx(wanted, abs=1e-7)


@pytest.mark.parametrize("metric", ["f1", "auc", "balanced_accuracy"])
def test_the_spread_is_that_of_the_metric(metric: str) -> None:
    """The standard error of the shares is the spread of the metric over fresh tables, within a tenth."""
    found = [shares_of(metric, *drawn(2, seed)[:2], None) for seed in range(400)]
    spread = float(np.std([shares.mean() for shares in found]))
    stated = float(np.mean([shares.std() / ROWS**0.5 for shares in found]))

    assert stated == pytest.approx(spread, rel=0.1)


def test_values() -> None:
    """Errors of values are in standard units."""
    y, scores = np.array([0.0, 1.0], np.float32), np.array([[0.5], [3.0]], np.float32)
    assert shares_of("mae", y, scores, None).tolist() == [0.5, 2.0]
    assert shares_of("rmse", y, scores, None).tolist() == [0.25, 4.0]


def test_a_class_without_rows() -> None:
    """One class only: the area is one half, nothing is found of the second class, and nothing fails."""
    y, scores = np.zeros(5, np.int64), np.full((5, 1), -1.0, np.float32)
    assert shares_of("auc", y, scores, None).mean() == 0.5
    assert shares_of("f1", y, scores, None).mean() == 1.0
    assert shares_of("balanced_accuracy", y, scores, None).mean() == 0.0


def test_every_metric_is_computed() -> None:
    """The metrics that may be asked for are those that are computed."""
    assert list(SHARES) == list(METRICS)
