"""What a model is asked to be good at: objectives of a regression, constraints, metrics, rules for the threshold between two classes."""

import math
import re
from dataclasses import dataclass
from typing import Literal, get_args

from batchproof.service.bundle.manifest import LEVELS, MOST_QUANTILES

BALANCED = "balanced"  # the class weights that give every class the same sum
RegressionLoss = Literal["squared_error", "poisson", "gamma"]  # what the fit of a number minimises
OBJECTIVES: tuple[str, ...] = get_args(RegressionLoss)
METRICS = {  # what fits can be chosen by -> what target it is for; batchproof.training.fit.metric computes them
    "log_loss": "classes",
    "brier": "classes",
    "accuracy": "classes",
    "balanced_accuracy": "classes",
    "f1": "classes",
    "auc": "two classes",
    "rmse": "a number",
    "mae": "a number",
}
COST = re.compile(r"cost=([^:]+):([^:]+)")


class GoalError(ValueError):
    """A goal that cannot be read; the message is one sentence."""


@dataclass(frozen=True)
class ThresholdRule:
    """How the threshold is found: the best `f1` or `balanced_accuracy`, the least `cost`, or a `number` that is given."""

    text: str  # as it was written
    kind: str
    costs: tuple[float, float] = (1.0, 1.0)  # of a false positive, and of a false negative
    number: float = 0.5


def threshold_rule(text: str | None) -> ThresholdRule | None:
    """Return the rule that `text` writes, `f1`, `balanced_accuracy`, `cost=FP:FN` or a number; raises GoalError."""
    if text is None:
        return None
    if text in ("f1", "balanced_accuracy"):
        return ThresholdRule(text, text)
    cost = COST.fullmatch(text)
    if cost:
        costs = _number(cost[1]), _number(cost[2])
        if not all(0.0 < each < math.inf for each in costs):
            raise GoalError(
                f"--threshold is {text!r}: both costs must be numbers above 0, such as cost=1:20, where a false negative costs "
                "20 times a false positive."
            )
        return ThresholdRule(text, "cost", costs)
    number = _number(text)
    if not 0.0 < number < 1.0:
        raise GoalError(
            f"--threshold is {text!r}: use f1, balanced_accuracy, cost=FP:FN, such as cost=1:20, or a number between 0 and 1."
        )
    return ThresholdRule(text, "number", number=number)


def quantile_levels(text: str | None) -> tuple[float, ...]:
    """Return the ascending levels that `text` writes with commas; none for None. Raises GoalError."""
    if text is None:
        return ()
    levels = tuple(sorted(_number(level) for level in text.split(",")))
    if not all(LEVELS[0] <= level <= LEVELS[1] for level in levels) or len(set(levels)) < len(levels):
        raise GoalError(
            f"--quantiles is {text!r}: use numbers from {LEVELS[0]} to {LEVELS[1]}, each once, such as 0.1,0.5,0.9."
        )
    if len(levels) > MOST_QUANTILES:
        raise GoalError(f"--quantiles has {len(levels)} levels: {MOST_QUANTILES} are the most.")
    return levels


def check_constraints(
    increasing: tuple[str, ...], decreasing: tuple[str, ...], targets: tuple[str, ...], dropped: tuple[str, ...]
) -> None:
    """Raise GoalError for a monotone constraint that names no column, the target, a dropped column, or a column twice."""
    for flag, columns in (("--increasing", increasing), ("--decreasing", decreasing)):
        for column in columns:
            if not column.strip(", "):
                raise GoalError(f"{flag} names no column: name features, such as carat,depth, or leave it out.")
            if column in targets:
                raise GoalError(
                    f"{flag} names {column!r}, which is {'the' if len(targets) == 1 else 'a'} target: name features."
                )
            if column in dropped:
                raise GoalError(f"column {column!r} is named in both --drop and {flag}: choose one.")
            if column in increasing and column in decreasing:
                raise GoalError(f"column {column!r} is named in both --increasing and --decreasing: choose one.")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
