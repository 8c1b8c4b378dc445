r"""Figures of change between two samples, each beside the point that it passes by chance only.

Two independent samples of the same population are compared: m training rows and n rows of a window. All points below
hold for a chance `alpha` of a false alarm; how alpha follows from the 99.9 % that a window is promised, `report.py` says.

**Population stability index.** With the shares p of the training rows and q of the window's rows in k cells,

    PSI = sum over cells of (q - p) ln(q / p),

the symmetric Kullback-Leibler divergence (Jeffreys, Proc. R. Soc. A 186, 1946). Under no change it is about a chi-square
variable of k - 1 degrees of freedom times (1/n + 1/m) (Yurdakul and Naranjo, Journal of Risk Model Validation 14(4),
2020). That is a first-order approximation, and PSI exceeds it where cells are small. A bound that needs no
approximation of PSI follows from Pearson's statistic of homogeneity with the pooled shares r = (nq + mp) / (n + m) and
N = 1 / (1/n + 1/m),

    X2 = N sum of (q - p)^2 / r,

whose distribution is chi-square with k - 1 degrees of freedom in the limit. With u = (q - p) / r,

    ln(q / p) = ln(1 + u m / (n + m)) - ln(1 - u n / (n + m)),   so   (q - p) ln(q / p) <= r u^2 g(|u|)

with g(s) = -ln(1 - s) / s: the quotient of that difference by u is a mean over t in (0, 1) of
a / (1 + aut) + b / (1 - but) with a + b = 1, which is at most 1 / (1 - |u| t). Each cell has |u| <= sqrt(X2 / (N r)).
Hence, where X2 stays below its point T, and with the smallest pooled share r_min,

    PSI <= T / N * g(sqrt(T / (N r_min))).

Cells in which fewer than 2 T rows are expected are joined with others, so that the factor g is at most 1.74; with many
rows it is 1. Where that leaves one cell only, the greatest cell is compared with the rest: their share has exact points
(below), and the threshold is the greater PSI of the two. Half a row is added to each cell, so that an empty one has a
logarithm; it only makes PSI smaller.

**Shares.** x of n rows against y of m: given x + y, and no change, x is hypergeometric whatever the share is (Fisher's
exact test, 1935). The point is the largest x whose upper tail is above alpha. Of the tail's terms, each is smaller
than the one before by a factor that decreases, so the first term over (1 - factor) bounds their sum from above.

**Values outside the training range.** No training row is outside, by definition. But take the n + m values of both
samples in order, and look at them from below until one of training comes, then from above: at least x of the window are
outside exactly where at most one of the first x + 1 is of training. Rows being exchangeable, that is the tail above with
y = 1, whatever the distribution of the values (Wilks, Annals of Mathematical Statistics 13, 1942); ties only make it
smaller.

**Unseen categories.** Training counts them by leaving one out (`training/export/reference.py`). Rows of a category that
has up to `rare_rows` + 1 training rows enter that count together or not at all, so its variance is up to
`rare_rows` + 1 times that of independent rows: the training sample counts as that many times smaller.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

MIN_EXPECTED_FACTOR = 2.0  # of the chi-square point: rows that a cell is expected to have at least
MAX_DEVIATION = 0.9  # of a cell from its expectation, relative, in the factor g
PRIOR_ROWS = 0.5  # added to each cell


class Figure(NamedTuple):
    """A figure of change, and the point that it passes by chance only."""

    value: float
    threshold: float

    @property
    def is_drift(self) -> bool:
        """Whether the figure is beyond what chance explains."""
        return self.value > self.threshold


def stability(training: np.ndarray, window: np.ndarray, alpha: float) -> Figure | None:
    """Return the PSI of counts [cells] int64; None where a sample has no row."""
    m, n = int(training.sum()), int(window.sum())
    if not m or not n:
        return None
    effective = 1.0 / (1.0 / n + 1.0 / m)
    point = chi_square_point(len(training) - 1, alpha)
    groups = _groups(training * (effective / m), MIN_EXPECTED_FACTOR * point)
    cells = int(groups.max()) + 1
    if cells < 2:
        return _stability_of_two(training, window, alpha)
    before = np.bincount(groups, training, cells)
    after = np.bincount(groups, window, cells)
    point = chi_square_point(cells - 1, alpha)
    least = effective * float(((before + after) / (n + m)).min())
    deviation = min(math.sqrt(point / least), MAX_DEVIATION)
    bound = -math.log1p(-deviation) / deviation
    return Figure(_psi(before, after), point * bound / effective)


def _psi(training: np.ndarray, window: np.ndarray) -> float:
    cells = len(training)
    p = (training + PRIOR_ROWS) / (training.sum() + cells * PRIOR_ROWS)
    q = (window + PRIOR_ROWS) / (window.sum() + cells * PRIOR_ROWS)
    return float(((q - p) * np.log(q / p)).sum())


def _stability_of_two(training: np.ndarray, window: np.ndarray, alpha: float) -> Figure:
    """Return the PSI of the greatest cell and all others together, with the PSI at the exact points of their share.

    Any cell may be the greatest, by chance too, so each of them has its part of `alpha`.
    """
    alpha /= 2 * len(training)  # two sides for each cell
    most = int(training.argmax())
    before, after = (np.array([counts[most], counts.sum() - counts[most]]) for counts in (training, window))
    m, n, y = int(before.sum()), int(after.sum()), int(before[1])
    high = most_by_chance(n, y, m, alpha)
    low = n - most_by_chance(n, m - y, m, alpha)
    threshold = max(_psi(before, np.array([n - x, x])) for x in (low, high))
    return Figure(_psi(before, after), threshold)


def _groups(expected: np.ndarray, least: float) -> np.ndarray:
    """Return the group of each cell [cells] int64: each has at least `least` expected rows, or there is one only.

    A cell with enough rows is a group of its own. The others are joined in their order, so that neighbours stay together;
    what is left over joins the group before it.
    """
    groups = np.zeros(len(expected), np.int64)
    small = np.flatnonzero(expected < least)
    alone = np.flatnonzero(expected >= least)
    groups[alone] = np.arange(len(alone))
    number, gathered = len(alone), 0.0
    for cell in small:
        groups[cell] = number
        gathered += expected[cell]
        if gathered >= least:
            number, gathered = number + 1, 0.0
    if number == len(alone) and len(alone):  # the small cells are too few for a group: they join the smallest other one
        groups[small] = groups[alone[np.argmin(expected[alone])]]
    return np.minimum(groups, max(number - 1, 0))


@lru_cache(4096)
def chi_square_point(degrees: int, alpha: float) -> float:
    """Return the value that a chi-square variable of so many degrees of freedom exceeds with probability `alpha`."""
    if degrees < 1:
        return 0.0
    low, high = 0.0, float(degrees)
    while chi_square_tail(high, degrees) > alpha:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if chi_square_tail(middle, degrees) > alpha else (low, middle)
    return high


def chi_square_tail(x: float, degrees: int) -> float:
    """Return the probability that a chi-square variable exceeds x: a finite sum for whole degrees of freedom."""
    half = x / 2
    if half <= 0:
        return 1.0
    total, power = (math.erfc(math.sqrt(half)), 0.5) if degrees % 2 else (0.0, 0.0)
    while power < degrees / 2:  # half^power / gamma(power + 1), by their logarithms
        total += math.exp(power * math.log(half) - half - math.lgamma(power + 1))
        power += 1
    return min(total, 1.0)


def share(x: int, n: int, y: int, m: int, alpha: float) -> Figure | None:
    """Return the share x / n, and the greatest that y of m training rows explain; None where there is no row."""
    if not n or not m:
        return None
    return Figure(x / n, most_by_chance(n, y, m, alpha) / n)


@lru_cache(4096)
def most_by_chance(n: int, y: int, m: int, alpha: float) -> int:
    """Return the greatest x of n rows that is not surprising beside y of m; n where no x is."""
    low, high = min(n, math.ceil(n * y / m)), n + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if upper_tail(middle, n, y, m) > alpha else (low, middle)
    return low


def upper_tail(x: int, n: int, y: int, m: int) -> float:
    """Return a bound from above of the chance that at least x of x + y rows are among n and the rest among m."""
    both = x + y
    if y >= m:
        return 1.0
    first = _ln_binomial(n, x) + _ln_binomial(m, y) - _ln_binomial(n + m, both)
    # The next term has one row more of the window and one fewer of training.
    factor = (n - x) * y / ((x + 1) * (m - y + 1))
    if factor >= 1:
        return 1.0
    return min(1.0, math.exp(first) / (1 - factor))


def _ln_binomial(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
