"""What the labels of the evaluation rows are worth at every threshold between two classes."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from batchproof.service.bundle.manifest import Decision
from batchproof.service.features.arrays import Outputs
from batchproof.training.data.dataset import Dataset
from batchproof.training.evaluation.threshold import Counts, count
from batchproof.training.goal import ThresholdRule, threshold_rule

POINTS = 199
HALF = 0.5  # the threshold of a bundle without a decision


class ThresholdCurve(NamedTuple):
    """The labels at each threshold of a grid, and at two: the bundle's own, and one half."""

    decision: Decision
    rule: ThresholdRule
    grid: np.ndarray  # [points]
    along: Counts  # at each point of the grid
    at: Mapping[float, Counts]  # the bundle's threshold first

    @property
    def costs(self) -> tuple[float, float] | None:
        """The costs of a false positive and of a false negative, where the rule has them."""
        return self.rule.costs if self.rule.kind == "cost" else None


def of(data: Dataset, outputs: Outputs, decision: Decision | None) -> ThresholdCurve | None:
    """Measure the evaluation rows, each counted once; None for a bundle without a decision."""
    rule = None if decision is None else threshold_rule(decision.rule)
    if decision is None or rule is None:
        return None
    p, y = outputs["probabilities"][:, 1], data.y(data.evaluation_part)
    grid = np.linspace(0.0, 1.0, POINTS + 2)[1:-1]
    at = {threshold: count(p, y, np.array([threshold])) for threshold in dict.fromkeys((decision.threshold, HALF))}
    return ThresholdCurve(decision, rule, grid, count(p, y, grid), at)
