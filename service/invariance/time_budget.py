"""The time limit of a check: the check ends between two runs, reports its progress, and pauses where others need the cores."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np

PROGRESS_S = 3.0
MOST_PAUSE_S = 5.0  # of all threads: by so much pauses can lengthen a check


class TimeBudget:
    """The time that is left, shared by all threads of a check."""

    def __init__(
        self,
        seconds: float | None = None,
        on_progress: Callable[[str], None] | None = None,
        pause_factor: float = 0.0,
    ) -> None:
        """Allow so many seconds from now, None: any; `on_progress` is given a sentence now and then.

        After each batch its thread sleeps `pause_factor` times as long as the batch took, up to MOST_PAUSE_S in all.
        """
        now_s = time.perf_counter()
        self._started_s = self._told_s = now_s
        self._end_s = None if seconds is None else now_s + seconds
        self._on_progress = on_progress
        self._rows = 0
        self._pause_factor = pause_factor
        self._pause_left_s = MOST_PAUSE_S

    @property
    def is_over(self) -> bool:
        """Return whether the time is used up."""
        return self._end_s is not None and time.perf_counter() >= self._end_s

    def within(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield batches of row numbers until the time is used up."""
        for batch in batches:
            if self.is_over:
                return
            with self._pausing():
                yield batch
            self._rows += len(batch)
            self._report()

    @contextmanager
    def _pausing(self) -> Iterator[None]:
        """Pause after the block in proportion to its time."""
        if not self._pause_factor or self._pause_left_s <= 0:
            yield
            return
        began_s = time.perf_counter()
        yield
        pause_s = min(self._pause_factor * (time.perf_counter() - began_s), self._pause_left_s)
        self._pause_left_s -= pause_s
        time.sleep(max(0.0, pause_s))

    def _report(self) -> None:
        now_s = time.perf_counter()
        if self._on_progress is not None and now_s - self._told_s > PROGRESS_S:
            self._told_s = now_s
            self._on_progress(f"{self._rows} rows run in {now_s - self._started_s:.0f} s")
