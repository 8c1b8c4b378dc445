"""Split the rows into training, validation and test rows: seeded, and stratified by class."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from batchproof.training.data.tables.table_error import TableError

MIN_ROWS = 10
NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "holdout"),
}


class Split(NamedTuple):
    """The row numbers of each part, in increasing order."""

    train: np.ndarray  # [train rows] int64
    validation: np.ndarray  # [validation rows] int64
    test: np.ndarray  # [test rows] int64


def check_enough(rows: int, least_rows: int) -> None:
    """Raise TableError where there are fewer rows than `least_rows`."""
    if rows < least_rows:
        raise TableError(f"{rows} rows are too few to train and test on: at least {least_rows} are needed.")


def split_of(parts: Sequence[np.ndarray]) -> Split:
    """Return the split of the row numbers for training, validation and, unless it is left out and thus empty, test."""
    train, validation, *test = parts
    return Split(train, validation, *(test or [np.empty(0, np.int64)]))


def draw(
    strata: np.ndarray, seed: int, validation_share: float, test_share: float, least_rows: int = MIN_ROWS
) -> Split:
    """Split len(strata) rows so that every stratum (class code; all zeros for regression) keeps its share.

    A stratum too small for its shares stays whole in the training rows. `test_share` 0 leaves the test empty.
    """
    check_enough(len(strata), least_rows)
    random = np.random.default_rng(seed)
    order = random.permutation(len(strata))
    groups = [order[strata[order] == stratum] for stratum in np.unique(strata)]
    test = np.concatenate([group[: _share(len(group), test_share)] for group in groups])
    validation = np.concatenate(
        [group[_share(len(group), test_share) :][: _share(len(group), validation_share)] for group in groups]
    )
    test, validation = _filled(order, groups, test, validation, test_share)
    train = np.setdiff1d(order, np.concatenate([test, validation]))
    return Split(train, np.sort(validation), np.sort(test))


def named(labels: Sequence[str | None], column: str, place: Callable[[int], str] = "row {}".format) -> Split:
    """Split by the words in a column of the table; `place` names a row. Raises TableError."""
    words = {word: part for part, words in NAMES.items() for word in words}
    parts: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for number, label in enumerate(labels):
        part = words.get(str(label).strip().lower())
        if part is None:
            raise TableError(f"{place(number)} has {label!r} in {column!r}: use train, validation or test.")
        parts[part].append(number)
    for part, numbers in parts.items():
        if len(numbers) < (2 if part == "train" else 1):
            raise TableError(f"column {column!r} marks too few {part} rows: {len(numbers)}.")
    return Split(*(np.asarray(parts[part], np.int64) for part in Split._fields))


def _share(rows: int, share: float) -> int:
    return int(rows * share + 0.5)


def _filled(
    order: np.ndarray, groups: list[np.ndarray], test: np.ndarray, validation: np.ndarray, test_share: float
) -> tuple[np.ndarray, np.ndarray]:
    """If all strata are too small for their shares, take single rows from strata that have another row."""
    needs_test = test_share > 0 and not len(test)
    if len(validation) and not needs_test:
        return test, validation
    spare = [row for group in groups for row in group[1:] if row not in test and row not in validation]
    if not len(validation):
        validation = np.asarray(spare[:1], order.dtype)
        spare = spare[1:]
    if needs_test:
        test = np.asarray(spare[:1], order.dtype)
    if not len(validation) or (needs_test and not len(test)):
        raise TableError("every class has one row: none is left to validate and test on.")
    return test, validation
