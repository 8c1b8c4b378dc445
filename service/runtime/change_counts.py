"""What is counted of changes: reloads, and the comparison of a challenger with what is served."""

import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

DIFFERENCES = (0.0, 1e-6, 1e-4, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0)  # of a challenger's probabilities or values


class ReloadCounts:
    """How often what is served was changed, in the process that decides on it."""

    def __init__(self) -> None:
        """Begin with the start of the service, which is the first success."""
        self.on_change: Callable[[], object] = lambda: None
        self.ok = 0
        self.refused = 0
        self.last_good_s = time.time()

    def succeeded(self) -> None:
        """Count a change that was carried out."""
        self.ok += 1
        self.last_good_s = time.time()
        self.on_change()

    def failed(self) -> None:
        """Count a bundle or an order that was refused."""
        self.refused += 1
        self.on_change()

    def snapshot(self) -> dict[str, float]:
        """Return the counts as plain data."""
        return {"ok": self.ok, "refused": self.refused, "last_good_s": self.last_good_s}


class ShadowCounts:
    """What comparing one challenger with one served version has found."""

    __slots__ = ("batches", "by_difference", "dropped", "failed", "labels_changed", "largest", "rows", "sum_difference")

    def __init__(self) -> None:
        """Start at zero."""
        self.batches = 0
        self.rows = 0
        self.labels_changed = 0
        self.dropped = 0  # batches that were left out because rows waited
        self.failed = 0
        self.largest = 0.0  # difference of a row
        self.sum_difference = 0.0
        self.by_difference = [0] * (len(DIFFERENCES) + 1)  # rows; not cumulative

    def compared(self, differences: Sequence[float], labels_changed: int) -> None:
        """Count one batch, by the difference of each row."""
        self.batches += 1
        self.rows += len(differences)
        self.labels_changed += labels_changed
        self.largest = max([self.largest, *differences])
        self.sum_difference += sum(differences)
        for difference in differences:
            self.by_difference[bisect_left(DIFFERENCES, difference)] += 1

    def snapshot(self) -> dict[str, Any]:
        """Return the counts that can be added over workers, as plain data."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "largest"}
