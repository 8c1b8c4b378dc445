"""Split-conformal uncertainty: intervals for values, prediction sets for classes, at a coverage the caller names.

Training measures how wrong the model was on rows that it did not learn from and stores a threshold for each of a
list of coverages; here a threshold is looked up and compared. Under exchangeability of those rows and the new ones a
set or an interval holds the truth with at least the stated probability (Vovk, Gammerman, Shafer, 2005; for classes
the least ambiguous sets of Sadinle, Lei, Wasserman, 2019). Nothing here changes a bit of the ordinary answer.
"""

from bisect import bisect_left
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from batchproof.service.bundle.files.records import GREATEST, Finite, Record

Coverage = Annotated[float, Meta(gt=0, lt=1)]
Error = Annotated[float, Meta(ge=0, le=GREATEST)]
SLACK = 1e-9  # so that a requested 0.9 equals a stored 0.9, however each was computed


class Conformal(Record, frozen=True, kw_only=True):
    """The thresholds of one model, as bundle.json holds them in `uncertainty`."""

    method: Literal["split-conformal"]
    calibration_rows: Annotated[int, Meta(ge=1)]
    coverages: Annotated[tuple[Coverage, ...], Meta(min_length=1)]  # ascending
    edges: tuple[Finite, ...]  # ascending bounds between bins of the predicted value; none for classes
    thresholds: tuple[tuple[Error, ...], ...]  # [bins][coverages], ascending in each
    tested: dict[str, dict[str, Finite]]  # on the test rows: coverage -> {"coverage", "width" or "size"}

    def __post_init__(self) -> None:
        """Raise ValueError for fields that contradict one another."""
        ascending = (self.coverages, self.edges)
        if any(list(values) != sorted(set(values)) for values in ascending):
            raise ValueError("coverages and edges ascend")
        if len(self.thresholds) != len(self.edges) + 1:
            raise ValueError("there is one list of thresholds for each bin")
        if any(len(bin_) != len(self.coverages) or list(bin_) != sorted(bin_) for bin_ in self.thresholds):
            raise ValueError("each bin has one threshold for each coverage, and they ascend")

    def level(self, coverage: float) -> int:
        """Return the place of the least stored coverage that is at least `coverage`; raises ValueError."""
        place = bisect_left(self.coverages, coverage - SLACK)
        if not 0.0 < coverage < 1.0 or place == len(self.coverages):
            raise ValueError(
                f"coverage must be above 0 and at most {self.coverages[-1]:g}, "
                f"the most that {self.calibration_rows} calibration rows can support"
            )
        return place

    def intervals(self, level: int, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the least and the greatest value of each interval, both [rows] float32, for `values` [rows]."""
        widths = np.array([bin_[level] for bin_ in self.thresholds])  # [bins] float64
        half = widths[np.searchsorted(self.edges, values, side="right")]  # [rows]
        centre = values.astype(np.float64)
        return (centre - half).astype(np.float32), (centre + half).astype(np.float32)

    def sets(self, level: int, probabilities: np.ndarray) -> np.ndarray:
        """Return which classes each set holds, [rows, classes] bool; the most probable class is always in it."""
        (bin_,) = self.thresholds
        chosen = 1.0 - probabilities.astype(np.float64) <= bin_[level]
        chosen[np.arange(len(chosen)), probabilities.argmax(axis=1)] = True
        return chosen
