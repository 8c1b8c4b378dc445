"""What held-out rows are judged by when epochs and plans are chosen: the loss, or a metric in its place.

Each metric is the mean of a share for each row, less is better: one minus the metric where more is better. Shares make
two fits comparable row by row, with the standard error of their difference (`selection.choice`). The shares of accuracy, the
Brier score and the errors of values are what the row itself costs; those of the F1 score and of the area under the
ROC curve are the metric plus the row's influence on it (the delta method; DeLong, DeLong, Clarke-Pearson 1988).
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from batchproof.training.network.objective import Objective
from batchproof.training.network.tensors import HeldRows


def judged(objective: Objective, scores: Tensor, rows: HeldRows) -> Tensor:
    """Return the share of each held-out row [rows] in what fits are chosen by, for their `scores` [rows, outputs].

    The loss counts rows by their weight and that of their class, a metric by their own weight only.
    """
    if objective.metric is None:
        return rows.weighed(objective.held_losses(scores, rows.y))
    weight = torch.ones(len(rows.y), device=scores.device) if rows.row_weight is None else rows.row_weight
    weight = weight.double() / weight.double().mean()
    return SHARES[objective.metric](objective, scores.double(), rows.y, weight)


def log_loss(objective: Objective, scores: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Log loss in nats, with the pseudo-row of the loss."""
    return objective.held_losses(scores, y) * weight


def brier(_: Objective, scores: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Squared error of the probabilities, summed over the classes."""
    p = pairs(scores).softmax(dim=1)
    return (p - functional.one_hot(y, p.shape[1])).square().sum(dim=1) * weight


def accuracy(_: Objective, scores: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Share of wrong classes."""
    return (pairs(scores).argmax(dim=1) != y).double() * weight


def balanced_accuracy(_: Objective, scores: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Share of wrong classes, averaged over the true classes that occur."""
    sums = torch.zeros(pairs(scores).shape[1], dtype=weight.dtype, device=y.device).index_add_(0, y, weight)
    wrong = (pairs(scores).argmax(dim=1) != y).double()
    return wrong * weight * len(y) / (sums[y] * (sums > 0).sum())


def f1(_: Objective, scores: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """One minus the F1 score: of the second of two classes, or the mean over the classes that occur or are predicted."""
    chosen, classes = pairs(scores).argmax(dim=1), pairs(scores).shape[1]
    found = []
    for label in range(classes) if classes > 2 else (1,):
        hit = 2.0 * ((chosen == label) & (y == label)) * weight  # [rows]
        sum_of_both = ((chosen == label).double() + (y == label)) * weight
        if sum_of_both.any():
            score = hit.sum() / sum_of_both.sum()
            found.append(1.0 - score - (hit - score * sum_of_both) / sum_of_both.mean())
    return torch.stack(found).mean(dim=0) if found else torch.ones_like(weight)


def auc(_: Objective, scores: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """One minus the area under the ROC curve; one half where a class has no row."""
    score, is_positive = scores[:, -1], y == 1
    share = torch.full_like(weight, 0.5)
    if is_positive.all() or not is_positive.any():
        return share
    for own, others, sign in ((is_positive, ~is_positive, 1.0), (~is_positive, is_positive, -1.0)):
        ranked, order = score[others].sort()
        summed = functional.pad(weight[others][order].cumsum(0), (1, 0))
        below, upto = (torch.searchsorted(ranked, score[own].contiguous(), right=right) for right in (False, True))
        placed = (summed[below] + summed[upto]) / (2.0 * summed[-1])  # share of the others below, ties half
        placed = placed if sign > 0 else 1.0 - placed
        area = (placed * weight[own]).sum() / weight[own].sum()
        share[own] = (area - placed) * weight[own] * len(y) / weight[own].sum()
    return share + (1.0 - area)


def rmse(objective: Objective, scores: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Squared error in standard units: its order is that of the root."""
    return _of_rows((objective.values(scores) - y).square()) * weight


def mae(objective: Objective, scores: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Absolute error in standard units."""
    return _of_rows((objective.values(scores) - y).abs()) * weight


def _of_rows(errors: Tensor) -> Tensor:
    """Return the error of each row: of several targets, the mean over them."""
    return errors if errors.dim() == 1 else errors.mean(dim=1)


def pairs(scores: Tensor) -> Tensor:
    """Return the scores [rows, classes]: a binary network's one logit L becomes (0, L)."""
    return scores if scores.shape[1] > 1 else functional.pad(scores, (1, 0))


SHARES: dict[str, Callable[[Objective, Tensor, Tensor, Tensor], Tensor]] = {
    "log_loss": log_loss,
    "brier": brier,
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "f1": f1,
    "auc": auc,
    "rmse": rmse,
    "mae": mae,
}
