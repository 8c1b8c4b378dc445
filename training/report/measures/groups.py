"""Calibration by group: for the rows of each category, what was predicted on average and what was observed.

A model may be calibrated over all rows and not over those of one region or product. A group counts as off where the mean
prediction is outside the interval of what was observed: Wilson's of 1927 for a share, the normal one for a mean, at a level
that holds for all groups of a feature together (Bonferroni).
"""

from collections.abc import Mapping, Sequence
from itertools import islice
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from batchproof.service.bundle.signature import Feature
from batchproof.training.data.dataset import Dataset
from batchproof.training.report.measures.importance import Importance
from batchproof.training.report.measures.reliability import PREDICTED, SECOND

FEATURES = 3  # the most important categorical ones; one for each of several targets
GROUPS = 12  # the largest
LEAST_ROWS = 20  # of a group: with fewer, hardly any difference is clear
LEVEL = 0.95


class Group(NamedTuple):
    """The rows of one category."""

    label: str
    rows: int
    stated: float  # mean prediction: of a value, or of a probability
    observed: float  # mean of the true values, or share of rows for which the event occurred
    low: float  # of the interval of what was observed
    high: float

    @property
    def is_off(self) -> bool:
        """Return whether chance alone hardly explains the difference."""
        return not self.low <= self.stated <= self.high


class Grouped(NamedTuple):
    """The groups of one feature, the largest first."""

    feature: str
    what: str  # SECOND, PREDICTED, or the target of a regression
    groups: tuple[Group, ...]
    omitted: int  # further groups: smaller, or with too few rows


def of(data: Dataset, outputs: Mapping[str, np.ndarray], ranked: Sequence[Importance]) -> tuple[Grouped, ...]:
    """Compare predictions with the truth by the categories of the most important categorical features.

    `outputs` are those of the evaluation rows, [rows, width]. A feature with fewer than two groups of enough rows is left out.
    """
    codes = data.arrays[data.evaluation_part].categorical
    if codes is None:
        return ()
    compared = _compared(data, outputs)
    place = {feature.name: number for number, feature in enumerate(data.signature.categorical)}
    found: list[Grouped] = []
    for what, stated, observed in compared:
        of_features = (
            _grouped(
                data.signature.categorical[place[one.feature]], codes[:, place[one.feature]], what, stated, observed
            )
            for one in ranked
            if one.feature in place
        )
        kept = (one for one in of_features if len(one.groups) > 1)
        found += islice(kept, FEATURES if len(compared) == 1 else 1)
    return tuple(found)


def _compared(data: Dataset, outputs: Mapping[str, np.ndarray]) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return what is compared, and for each row what was predicted and what was observed [rows] float64; for each target."""
    truth = data.y(data.evaluation_part)
    if data.target.classes is None:
        values, truths = outputs["value"].T.astype(np.float64), truth.reshape(len(truth), -1).T.astype(np.float64)
        return list(zip(data.target.names, values, truths, strict=True))
    probabilities = outputs["probabilities"].astype(np.float64)
    if probabilities.shape[1] == 2:
        return [(SECOND, probabilities[:, 1], (truth == 1).astype(np.float64))]
    return [(PREDICTED, probabilities.max(axis=1), (probabilities.argmax(axis=1) == truth).astype(np.float64))]


def _grouped(feature: Feature, codes: np.ndarray, what: str, stated: np.ndarray, observed: np.ndarray) -> Grouped:
    present, counts = np.unique(codes, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    chosen = [int(present[one]) for one in order if counts[one] >= LEAST_ROWS][:GROUPS]
    z = NormalDist().inv_cdf(1 - (1 - LEVEL) / 2 / max(len(chosen), 1))
    groups = []
    for code in chosen:
        rows = codes == code
        if what not in (SECOND, PREDICTED) and np.ptp(observed[rows]) == 0.0:
            continue  # equal values do not show how far their mean may be off
        low, high = _interval(observed[rows], z, is_share=what in (SECOND, PREDICTED))
        label = _label(feature, code)
        groups.append(
            Group(label, int(rows.sum()), float(stated[rows].mean()), float(observed[rows].mean()), low, high)
        )
    return Grouped(feature.name, what, tuple(groups), len(present) - len(groups))


def _interval(observed: np.ndarray, z: float, *, is_share: bool) -> tuple[float, float]:
    """Return the interval of the mean of `observed` [rows]."""
    count, mean = len(observed), float(observed.mean())
    if not is_share:
        reach = z * float(observed.std(ddof=1)) / count**0.5
        return mean - reach, mean + reach
    middle = (mean + z * z / (2 * count)) / (1 + z * z / count)
    reach = z * (mean * (1 - mean) / count + z * z / (4 * count * count)) ** 0.5 / (1 + z * z / count)
    return middle - reach, middle + reach


def _label(feature: Feature, code: int) -> str:
    names = feature.categories or ()
    if code < len(names):
        return names[code]
    return "missing" if code == feature.missing_code else "unseen"
