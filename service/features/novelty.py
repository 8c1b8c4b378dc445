"""Which values of a row training did not have: unseen categories, and numbers and dates outside the training range."""

import numpy as np

from batchproof.service.bundle.signature import Feature, Signature
from batchproof.service.features.arrays import Arrays


class Novelty:
    """The signature, arranged for comparing."""

    def __init__(self, signature: Signature) -> None:
        """Prepare the range of each number and date, and the unseen code of each categorical feature."""
        ranges = [feature.range or (np.nan, np.nan) for feature in signature.numeric]  # NaN: nothing is outside
        self._low, self._high = np.array(ranges, np.float64).reshape(-1, 2).T
        self._unseen = np.array([feature.unseen_code for feature in signature.categorical], np.int64)
        self._numeric = _names(signature.numeric)
        self._categorical = _names(signature.categorical)

    def unseen(self, arrays: Arrays) -> list[list[str]]:
        """Return for each row the features whose category is not listed, in signature order."""
        if arrays.categorical is None:
            return [[] for _ in range(_rows(arrays))]
        return _listed(arrays.categorical == self._unseen, self._categorical)

    def out_of_range(self, arrays: Arrays) -> list[list[str]]:
        """Return for each row the features whose value is below the least or above the greatest training value."""
        if arrays.numeric is None:
            return [[] for _ in range(_rows(arrays))]
        return _listed((arrays.numeric < self._low) | (arrays.numeric > self._high), self._numeric)


def _names(features: tuple[Feature, ...]) -> list[str]:
    return [feature.name for feature in features]


def _rows(arrays: Arrays) -> int:
    return next(len(array) for array in arrays if array is not None)


def _listed(chosen: np.ndarray, names: list[str]) -> list[list[str]]:
    """Return the names of the chosen cells [rows, names] bool of each row."""
    listed: list[list[str]] = [[] for _ in chosen]
    for row, place in np.argwhere(chosen).tolist():
        listed[row].append(names[place])
    return listed
