"""Base rates that differ from those of the table: the shares of the classes where the model will be used.

Where only the shares of the classes change, and rows of one class stay as they are, the log-odds move by a constant each:
the score of a class by log(new share / old share) (Saerens, Latinne, Decaestecker 2002). Rows that are measured must have
the new shares too: of classes that are too frequent among them, rows are left out at random.
"""

from dataclasses import dataclass

import numpy as np

from batchproof.service.bundle.signature import class_text
from batchproof.service.features.arrays import Arrays
from batchproof.training.data.rows.split import Split
from batchproof.training.data.rows.weights import listed_by_class
from batchproof.training.data.tables.table_error import TableError
from batchproof.training.data.target import Target

SEED = 11
SUM = 1e-6  # by which shares of all classes may differ from 1


@dataclass(frozen=True)
class Prior:
    """The shares of the classes where the model will be used, and how far each score moves for them."""

    shares: np.ndarray  # [classes] float64, sum 1
    shift: np.ndarray  # [classes] float64, added to the scores

    def corrected(self, p: np.ndarray) -> np.ndarray:
        """Return probabilities at the training rows' shares [rows, classes] as those at the new ones."""
        moved = p * np.exp(self.shift)
        return np.asarray(moved / moved.sum(axis=1, keepdims=True))

    def named(self, target: Target) -> dict[str, float]:
        """Return the share of each class by its text."""
        return {
            class_text(label): share for label, share in zip(target.classes or (), self.shares.tolist(), strict=True)
        }

    def line(self, target: Target, split: Split, measured: Split) -> str:
        """Return the shares, and how many rows of the `split` are left to measure at them, for people."""
        shares = ", ".join(f"{label} {share:.4g}" for label, share in self.named(target).items())
        sizes = [
            f"{len(getattr(measured, part))} of {len(getattr(split, part))} {part} rows"
            for part in ("validation", "test")
        ]
        return f"shares of classes in use: {shares}; {' and '.join(sizes)} have them, and measure the result"


def read_prior(target: Target, train: np.ndarray, given: str | None, weight: np.ndarray | None) -> Prior | None:
    """Return what `given` says, `CLASS=SHARE,…`; None where nothing is given.

    Classes that it leaves out divide the rest as they do the rows numbered `train`. Those count as in the fit, by `weight`
    [rows] of all rows, because that is what its probabilities are for. Raises TableError for a regression, an unknown class,
    and shares that are not above 0 or do not leave room for the others.
    """
    if given is None:
        return None
    if target.classes is None:
        raise TableError(f"--class-prior needs classes, but the target {target.name!r} is a number: leave it out.")
    found = listed_by_class(target, "class-prior", "share", given)
    sums = np.bincount(target.y[train], None if weight is None else weight[train], len(target.classes))
    old = sums / sums.sum()
    stated = np.array([found.get(class_text(label), np.nan) for label in target.classes])
    is_open, total = np.isnan(stated), float(np.nansum(stated))
    if total > 1.0 + SUM or (is_open.any() and total >= 1.0):
        raise TableError(
            f"--class-prior gives shares whose sum is {total:.6g}: it must be below 1, or 1 for all classes."
        )
    if not is_open.any() and total < 1.0 - SUM:
        raise TableError(f"--class-prior gives every class a share, and their sum is {total:.6g}: it must be 1.")
    rest = (1.0 - total) * old / old[is_open].sum() if is_open.any() else old
    shares = np.where(is_open, rest, stated)
    shares = shares / shares.sum()
    return Prior(shares, np.log(shares / old))


def thinned(prior: Prior, y: np.ndarray, split: Split, arrays: dict[str, Arrays]) -> tuple[Split, dict[str, Arrays]]:
    """Return the split and its arrays with the validation and test rows that `with_shares` leaves; y are those of all rows."""
    left = {part: with_shares(prior, y[getattr(split, part)]) for part in ("validation", "test")}
    parts = {part: getattr(split, part)[rows] for part, rows in left.items()}
    return split._replace(**parts), {**arrays, **{part: arrays[part].take(rows) for part, rows in left.items()}}


def with_shares(prior: Prior, y: np.ndarray) -> np.ndarray:
    """Return the numbers of the rows that are left of classes y [rows] where those too frequent for the new shares are thinned.

    Of each class that occurs one row is left at least; the numbers ascend.
    """
    counts = np.bincount(y, minlength=len(prior.shares))
    present = counts > 0
    if not present.any():
        return np.arange(0)
    room = (prior.shares[present] / counts[present]).max()  # the share that a row stands for, where no row is left out
    kept = np.maximum(1, np.rint(prior.shares / room)).astype(np.int64)
    drawn = np.random.default_rng(SEED).permutation(len(y))
    return np.sort(np.concatenate([drawn[y[drawn] == code][: kept[code]] for code in np.flatnonzero(present)]))
