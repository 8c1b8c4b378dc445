"""The threshold between two classes: chosen on the validation rows, measured on others at every threshold.

At a threshold t the label is the second class where its probability is at least t. All that a rule weighs, true and false
positives and negatives, changes only where t passes a probability, so every threshold is tried by one sort.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from batchproof.service.bundle.manifest import Decision
from batchproof.service.bundle.signature import class_text
from batchproof.service.features.arrays import Arrays, Outputs
from batchproof.training.data.dataset import Dataset
from batchproof.training.goal import ThresholdRule, threshold_rule

FEW_ROWS = 30  # validation rows of a class; with fewer the warning says so
TINY = np.finfo(np.float64).tiny
DIGITS = 17  # that tell any two float64 apart


@dataclass(frozen=True)
class Counts:
    """How rows fall at each of some thresholds, each row as much as it counts: [thresholds] float64 each."""

    true_positives: np.ndarray
    false_positives: np.ndarray
    positives: float  # rows of the second class
    negatives: float

    @property
    def precision(self) -> np.ndarray:
        """The share of the second class among the rows that get its label; 1 where none does."""
        labelled = self.true_positives + self.false_positives
        return np.where(labelled > 0, _share(self.true_positives, labelled), 1.0)

    @property
    def recall(self) -> np.ndarray:
        """The share of the second class that gets its label."""
        return _share(self.true_positives, self.positives)

    @property
    def f1(self) -> np.ndarray:
        """The harmonic mean of precision and recall."""
        return _share(2.0 * self.true_positives, self.true_positives + self.false_positives + self.positives)

    @property
    def accuracy(self) -> np.ndarray:
        """The share of right labels."""
        return _share(self.true_positives + self.negatives - self.false_positives, self.positives + self.negatives)

    @property
    def balanced_accuracy(self) -> np.ndarray:
        """The mean over both classes of the share that gets its own label."""
        return np.asarray(0.5 * (self.recall + 1.0 - _share(self.false_positives, self.negatives)))

    def cost(self, costs: tuple[float, float]) -> np.ndarray:
        """Return the mean cost of a row, where a false positive and a false negative have these `costs`."""
        false_negatives = self.positives - self.true_positives
        total = costs[0] * self.false_positives + costs[1] * false_negatives
        return _share(total, self.positives + self.negatives)

    def loss(self, rule: ThresholdRule) -> np.ndarray:
        """Return what the rule wants least of."""
        if rule.kind == "cost":
            return self.cost(rule.costs)
        return -self.f1 if rule.kind == "f1" else -self.balanced_accuracy


class Chosen(NamedTuple):
    """A decision, and what its owner should know of it."""

    decision: Decision
    warnings: tuple[str, ...]


def _share(part: np.ndarray, whole: np.ndarray | float) -> np.ndarray:
    """Return part / whole; 0 where both are 0."""
    return np.asarray(part / np.maximum(whole, TINY))


def count(p: np.ndarray, y: np.ndarray, thresholds: np.ndarray, weight: np.ndarray | None = None) -> Counts:
    """Count rows at each of the `thresholds`, for probabilities `p` of the second class and class codes y, all [rows]."""
    weight = np.ones(len(y)) if weight is None else weight.astype(np.float64)
    order = np.argsort(p, kind="stable")
    below = np.searchsorted(p[order].astype(np.float64), thresholds, side="left")  # rows with a smaller probability
    is_positive = y[order] == 1
    found = []
    for of_class in (is_positive, ~is_positive):
        summed = np.concatenate([[0.0], np.cumsum(weight[order] * of_class)])
        found.append((summed[-1] - summed[below], float(summed[-1])))
    (true_positives, positives), (false_positives, negatives) = found
    return Counts(true_positives, false_positives, positives, negatives)


def choose(data: Dataset, run: Callable[[Arrays], Outputs], text: str | None) -> Chosen | None:
    """Return the decision of the rule in `text`; None where there is no rule.

    A rule that weighs the validation rows is given what the graph answers for them: `run` is called for those only.
    """
    rule = threshold_rule(text)
    if rule is None:
        return None
    if rule.kind == "number":
        return Chosen(Decision(threshold=rule.number, rule=rule.text), ())
    validation = run(data.arrays["validation"])
    y, p = data.y("validation"), validation["probabilities"][:, 1].astype(np.float64)
    threshold = best(rule, p, y, data.row_weights("validation"))
    return Chosen(Decision(threshold=threshold, rule=rule.text, rows=len(y)), tuple(_warnings(data, y)))


def line(data: Dataset, decision: Decision) -> str:
    """Return which class is the label from where on, for people."""
    first, second = (class_text(label) for label in data.target.classes or ())
    return f"threshold {decision.threshold:g} ({decision.rule}): the label is {second} from there on, below it {first}"


def best(rule: ThresholdRule, p: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Return the threshold that is best by the rule on `p`, `y` [rows], of equally good ones that nearest to one half.

    It has as few digits as tell the probabilities below and above it apart.
    """
    edges = np.unique(np.concatenate([[0.0], p, [1.0]]))  # a threshold is above one of them, and up to the next
    middles = edges[:-1] + np.diff(edges) / 2
    losses = count(p, y, middles, weight).loss(rule)
    good = np.flatnonzero(losses <= losses.min() + 1e-12)
    place = good[np.abs(middles[good] - 0.5).argmin()]
    return between(float(edges[place]), float(edges[place + 1]))


def between(low: float, high: float) -> float:
    """Return the number above `low` and up to `high`, and below 1, that is near their middle and has the fewest digits."""
    middle = low + (high - low) / 2
    rounded = (float(f"{middle:.{digits}g}") for digits in range(1, DIGITS))
    return next((value for value in rounded if low < value <= high and value < 1.0), middle)


def measured(data: Dataset, outputs: Outputs, decision: Decision) -> dict[str, float]:
    """Return what the labels of the evaluation rows are worth at the threshold, each row counted once."""
    y = data.y(data.evaluation_part)
    counts = count(outputs["probabilities"][:, 1], y, np.array([decision.threshold]))
    found = {
        "accuracy": counts.accuracy,
        "precision": counts.precision,
        "recall": counts.recall,
        "f1": counts.f1,
        "balanced_accuracy": counts.balanced_accuracy,
    }
    rule = threshold_rule(decision.rule)
    if rule is not None and rule.kind == "cost":
        found["cost"] = counts.cost(rule.costs)
    return {"threshold": decision.threshold, **{name: float(value[0]) for name, value in found.items()}}


def _warnings(data: Dataset, y: np.ndarray) -> list[str]:
    rows = np.bincount(y, minlength=2)
    label = (data.target.classes or ())[int(rows.argmin())]
    if rows.min() >= FEW_ROWS:
        return []
    sentence = (
        f"warning: the threshold was chosen on {rows.min()} validation rows of class {label!r}: with so few it is mostly "
        "chance; more rows, or a number of your own, make it reliable."
    )
    return [sentence]
