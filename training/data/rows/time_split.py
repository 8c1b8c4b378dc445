"""Split by time: training rows come before validation rows, and those before test rows; rows of one time stay together."""

from collections.abc import Callable, Sequence

import numpy as np

from batchproof.training.data.rows.split import MIN_ROWS, Split, check_enough, split_of
from batchproof.training.data.tables.table_error import TableError


def draw_times(times: np.ndarray, shares: tuple[float, float], name: str, least_rows: int = MIN_ROWS) -> Split:
    """Split rows by their times [rows] float64; `shares` are those of validation and test, 0 leaves the test empty.

    Raises TableError where there are fewer rows than `least_rows`, or fewer times than parts.
    """
    check_enough(len(times), least_rows)
    validation, test = shares
    ends = [1.0 - validation - test, *([1.0 - test] if test > 0 else [])]
    return split_of(blocks(times, ends, name))


def blocks(times: np.ndarray, ends: Sequence[float], name: str) -> list[np.ndarray]:
    """Return the row numbers of consecutive blocks, which end near these shares of the rows, and of the rest.

    A block ends between two different times. Raises TableError where there are fewer times than blocks.
    """
    order = np.argsort(times, kind="stable")
    changes = np.flatnonzero(np.diff(times[order]) > 0) + 1  # positions at which a later time begins
    if len(changes) < len(ends):
        raise TableError(
            f"the time {name!r} has {len(changes) + 1} different values, too few for {len(ends) + 1} parts one after another."
        )
    cuts, first = [], 0
    for number, end in enumerate(ends):
        last = len(changes) - (len(ends) - 1 - number)  # later blocks need a change each
        nearest = first + int(np.abs(changes[first:last] - end * len(times)).argmin())
        cuts.append(int(changes[nearest]))
        first = nearest + 1
    return [np.sort(block) for block in np.split(order, cuts)]


def check_later(times: np.ndarray, split: Split, name: str, place: Callable[[int], str]) -> None:
    """Raise TableError for a row of a test file that is not after all rows of the table; `place` names a row."""
    last = times[np.concatenate([split.train, split.validation])].max()
    early = times[split.test] <= last
    if early.any():
        row = int(split.test[early][0])
        raise TableError(
            f"{int(early.sum())} test rows are not after the last {name!r} of the table, the first is {place(row)} of the test "
            "file: test on later rows, or leave --time out."
        )
