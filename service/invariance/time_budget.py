"""The time limit of a check: the check ends between two runs, and reports its progress from time to time."""

import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np

PROGRESS_S = 3.0


class TimeBudget:
    """The time that is left, shared by all threads of a check."""

    def __init__(self, seconds: float | None = None, on_progress: Callable[[str], None] | None = None) -> None:
        """Allow so many seconds from now, None: any; `on_progress` is given a sentence now and then."""
        now_s = time.perf_counter()
        self._started_s = self._told_s = now_s
        self._end_s = None if seconds is None else now_s + seconds
        self._on_progress = on_progress
        self._rows = 0

    @property
    def is_over(self) -> bool:
        """Return whether the time is used up."""
        return self._end_s is not None and time.perf_counter() >= self._end_s

    def within(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield batches of row numbers until the time is used up."""
        for batch in batches:
            if self.is_over:
                return
            yield batch
            self._rows += len(batch)
            self._report()

    def _report(self) -> None:
        now_s = time.perf_counter()
        if self._on_progress is not None and now_s - self._told_s > PROGRESS_S:
            self._told_s = now_s
            self._on_progress(f"{self._rows} rows run in {now_s - self._started_s:.0f} s")
