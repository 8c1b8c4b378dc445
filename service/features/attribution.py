"""Contributions of features to a score: Shapley values of the served graph itself, against one typical row.

For a row x, a baseline row b and a set S of features, v(S) is the score of the row that has x's values in S and b's
elsewhere. The contribution of feature i is its Shapley value (Shapley, 1953)

    phi_i = sum over S without i of |S|! (F - |S| - 1)! / F! * (v(S + i) - v(S)),

and all of them sum to score(x) - score(b). Up to EXACT_FEATURES features every S is run, and the values are exact.
Above that, the marginal steps v(S + i) - v(S) along fixed random orders are averaged, each order together with its
reverse (Mitchell et al., 2022): the sum still holds, and the standard error over the pairs is reported.

The graph gives each v(S) the same bits in any batch, and the sums below run in one fixed order for each row, so that
an explanation is as invariant as the answer it explains.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import factorial

import numpy as np

from batchproof.service.bundle.signature import Signature
from batchproof.service.features.arrays import Arrays

EXACT_FEATURES = 8  # 2^8 runs of a row
ORDER_PAIRS = 16
SEED = 20261122


@dataclass(frozen=True)
class Plan:
    """Which mixed rows are run for each row, and how their scores combine."""

    masks: np.ndarray  # [runs, features] bool: True takes the row's own value; masks[0] none, masks[-1] all
    steps: np.ndarray  # [estimates, features, 2] run numbers: a feature's marginal step is v[.., 1] - v[.., 0]
    weights: np.ndarray  # [estimates, features] float64; each feature's sum to 1
    is_exact: bool

    @property
    def runs(self) -> int:
        """How many rows of the graph one explained row costs."""
        return len(self.masks)


@dataclass(frozen=True)
class Contributions:
    """What each feature adds to each row's scores."""

    values: np.ndarray  # [rows, features, outputs] float64
    errors: np.ndarray  # [rows, features, outputs] float64: standard errors, zero where exact
    scores: np.ndarray  # [rows, outputs] float64
    baseline: np.ndarray  # [rows, outputs] float64


@lru_cache(maxsize=64)
def plan(features: int) -> Plan:
    """Return the plan for rows of `features` features."""
    return _all_sets(features) if features <= EXACT_FEATURES else _some_orders(features)


def expand(run_plan: Plan, arrays: Arrays, baseline: Arrays, signature: Signature) -> Arrays:
    """Return every mixed row of every row, [rows * runs, ...], a row's own ones together; `baseline` has one row."""
    is_code = np.array([feature.kind == "categorical" for feature in signature.inputs])
    return Arrays(
        _mixed(run_plan.masks[:, ~is_code], arrays.numeric, baseline.numeric),
        _mixed(run_plan.masks[:, is_code], arrays.categorical, baseline.categorical),
    )


def reduce(run_plan: Plan, scores: np.ndarray) -> Contributions:
    """Return the contributions, from the `scores` [rows * runs, outputs] of the expanded rows."""
    values = scores.astype(np.float64).reshape(-1, run_plan.runs, scores.shape[1])  # [rows, runs, outputs]
    marginal = (
        values[:, run_plan.steps[..., 1]] - values[:, run_plan.steps[..., 0]]
    )  # [rows, estimates, features, outputs]
    total = np.zeros((len(values), *marginal.shape[2:]))
    for estimate, weight in enumerate(run_plan.weights):  # one after another: NumPy's sum picks its own order
        total += marginal[:, estimate] * weight[:, None]
    return Contributions(total, _standard_errors(run_plan, marginal, total), values[:, -1], values[:, 0])


def centred(scores: np.ndarray) -> np.ndarray:
    """Return each class's score minus the mean over classes, [rows, classes] float64, summed class by class.

    Softmax does not change when all scores of a row change by the same amount, so only this difference has a meaning.
    """
    wide = scores.astype(np.float64)
    total = np.zeros(len(wide))
    for column in range(wide.shape[1]):
        total += wide[:, column]
    difference: np.ndarray = wide - (total / wide.shape[1])[:, None]
    return difference


def _mixed(masks: np.ndarray, values: np.ndarray | None, baseline: np.ndarray | None) -> np.ndarray | None:
    if values is None or baseline is None:
        return None
    mixed = np.where(masks[None, :, :], values[:, None, :], baseline[None, :, :])  # [rows, runs, columns]
    return np.ascontiguousarray(mixed.reshape(-1, values.shape[1]))


def _all_sets(features: int) -> Plan:
    sets = np.arange(2**features)
    masks = (sets[:, None] >> np.arange(features)) & 1 == 1  # [2^F, F]: set number s holds feature i where bit i is 1
    size = masks.sum(axis=1)
    by_size = [factorial(n) * factorial(features - n - 1) / factorial(features) for n in range(features)]
    steps, weights = [], []
    for feature in range(features):
        without = sets[~masks[:, feature]]  # [2^(F-1)]
        steps.append(np.stack([without, without | (1 << feature)], axis=1))
        weights.append(np.array([by_size[n] for n in size[without]]))
    return Plan(masks, np.stack(steps, axis=1), np.stack(weights, axis=1), is_exact=True)


def _some_orders(features: int) -> Plan:
    random = np.random.default_rng(SEED)
    forward = [random.permutation(features) for _ in range(ORDER_PAIRS)]
    orders = [order for permutation in forward for order in (permutation, permutation[::-1])]
    masks = [np.zeros(features, bool)]
    last = 1 + len(orders) * (features - 1)  # every order ends in the row itself: one run serves them all
    steps = np.zeros((len(orders), features, 2), np.int64)
    for number, order in enumerate(orders):
        runs = [0, *range(1 + number * (features - 1), 1 + (number + 1) * (features - 1)), last]
        for feature, step in zip(order, pairwise(runs), strict=True):
            steps[number, feature] = step
        masks += [np.isin(np.arange(features), order[:replaced]) for replaced in range(1, features)]
    masks.append(np.ones(features, bool))
    weights = np.full((len(orders), features), 1.0 / len(orders))
    return Plan(np.stack(masks), steps, weights, is_exact=False)


def _standard_errors(run_plan: Plan, marginal: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return the standard error of the mean over pairs of orders; an order and its reverse are one observation."""
    errors = np.zeros_like(mean)
    if run_plan.is_exact:
        return errors
    for pair in range(ORDER_PAIRS):
        errors += ((marginal[:, 2 * pair] + marginal[:, 2 * pair + 1]) / 2 - mean) ** 2
    deviation: np.ndarray = np.sqrt(errors / (ORDER_PAIRS * (ORDER_PAIRS - 1)))
    return deviation
