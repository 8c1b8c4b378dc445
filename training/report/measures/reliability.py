"""Reliability: predicted probabilities against observed frequencies, before and after temperature scaling."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

BINS = 10  # with the same number of rows each
LEAST_ROWS = 8  # of a bin
SECOND, PREDICTED = "the second class", "the predicted class"  # whose probability is compared


class Curve(NamedTuple):
    """Bins of increasing predicted probability."""

    stated: np.ndarray  # [bins] mean predicted probability
    observed: np.ndarray  # [bins] share of rows for which the event occurred
    rows: np.ndarray  # [bins]
    error: float  # expected calibration error: mean |stated - observed|, weighted by rows


@dataclass(frozen=True)
class Reliability:
    """The same rows before and after temperature scaling."""

    what: str  # whose probability is compared
    temperature: float
    before: Curve
    after: Curve


def of(before: np.ndarray, after: np.ndarray, codes: np.ndarray, temperature: float) -> Reliability:
    """Compare probabilities [rows, classes] with true class `codes` [rows]: of class 1 of two, else of the top class."""
    if before.shape[1] == 2:
        return Reliability(
            SECOND,
            temperature,
            curve(before[:, 1], codes == 1),
            curve(after[:, 1].astype(np.float64), codes == 1),
        )
    parts = [(p.max(axis=1).astype(np.float64), p.argmax(axis=1) == codes) for p in (before, after)]
    return Reliability(PREDICTED, temperature, curve(*parts[0]), curve(*parts[1]))


def curve(stated: np.ndarray, occurred: np.ndarray) -> Curve:
    """Bin `stated` [rows] by equal numbers of rows, and compare with `occurred` [rows] bool."""
    bins = np.array_split(np.argsort(stated, kind="stable"), max(1, min(BINS, len(stated) // LEAST_ROWS)))
    means = np.array([stated[rows].mean() for rows in bins])
    shares = np.array([occurred[rows].mean() for rows in bins])
    counts = np.array([len(rows) for rows in bins])
    return Curve(means, shares, counts, float(np.abs(means - shares) @ counts / counts.sum()))
