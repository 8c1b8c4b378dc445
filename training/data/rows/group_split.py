"""Split by group: all rows of a group are in one part, and each class keeps its share as far as whole groups allow."""

from collections.abc import Callable, Sequence

import numpy as np

from batchproof.training.data.rows.split import MIN_ROWS, Split, check_enough, split_of
from batchproof.training.data.tables.table_error import TableError


def draw_groups(
    groups: np.ndarray, strata: np.ndarray, seed: int, shares: tuple[float, float], least_rows: int = MIN_ROWS
) -> Split:
    """Split rows by their groups [rows] int64; `shares` are those of validation and test, 0 leaves the test empty.

    Raises TableError where there are fewer rows than `least_rows`, or fewer groups than parts.
    """
    check_enough(len(groups), least_rows)
    validation, test = shares
    wanted = [1.0 - validation - test, validation, *([test] if test > 0 else [])]
    parts = assign(groups, strata, wanted, seed)
    return split_of([np.flatnonzero(parts == part) for part in range(len(wanted))])


def assign(groups: np.ndarray, strata: np.ndarray, shares: Sequence[float], seed: int) -> np.ndarray:
    """Return the part of each row [rows] int64: whole groups, the largest first, each where its classes are wanted most.

    Groups of one size are in random order. Raises TableError where there are fewer groups than parts.
    """
    _, numbers = np.unique(groups, return_inverse=True)
    _, codes = np.unique(strata, return_inverse=True)
    counts = np.zeros((numbers.max() + 1, codes.max() + 1))
    np.add.at(counts, (numbers, codes), 1.0)
    if len(counts) < len(shares):
        raise TableError(f"there are {len(counts)} groups of rows, too few for {len(shares)} parts that share none.")
    counts /= counts.sum(axis=0)  # [groups, classes], as shares of the class
    missing = np.asarray(shares)[:, None] * np.ones(counts.shape[1])  # [parts, classes], what each still lacks
    order = np.random.default_rng(seed).permutation(len(counts))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    part_of = np.zeros(len(counts), np.int64)
    for group in order.tolist():
        part = int((missing @ counts[group]).argmax())
        part_of[group] = part
        missing[part] -= counts[group]
    _fill_empty(part_of, counts.sum(axis=1), len(shares))
    filled: np.ndarray = part_of[numbers]
    return filled


def _fill_empty(part_of: np.ndarray, sizes: np.ndarray, parts: int) -> None:
    """Give each part without a group the smallest group of the part that has most."""
    for part in range(parts):
        if (part_of == part).any():
            continue
        richest = int(np.bincount(part_of, minlength=parts).argmax())
        own = np.flatnonzero(part_of == richest)
        part_of[own[sizes[own].argmin()]] = part


def check_apart(groups: np.ndarray, split: Split, name: str, place: Callable[[int], str]) -> None:
    """Raise TableError for a group in a test file that the table has too; `place` names a row."""
    shared = np.isin(groups[split.test], groups[np.concatenate([split.train, split.validation])])
    if shared.any():
        row = int(split.test[shared][0])
        raise TableError(
            f"{int(shared.sum())} test rows are of a group {name!r} that the table has too, the first is {place(row)} of the "
            "test file: remove such rows from one of them."
        )
