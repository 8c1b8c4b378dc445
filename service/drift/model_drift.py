"""The rows of one model on their way into windows: references from the event loop, counted in the collector's thread.

`offer` costs an answer a few tenths of a microsecond: it appends a tuple, and starts or wakes the thread where nothing
waited. Between two rounds of the thread a model has room for ROUND_ROWS rows; what does not fit is passed over and
counted, so under load drift costs less and not more. A request with more rows than there is room for gives every k-th.

The thread lets others run between two features, so that it keeps no answer waiting for longer than one of them takes.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from batchproof.service.drift.counts import Layout, WindowCounts, count_feature, count_predictions
from batchproof.service.drift.windows import DriftReports, Ended, Windows
from batchproof.service.features.arrays import Arrays, Outputs

ROUND_ROWS = 256  # of one model that are counted in one round


class Observed(NamedTuple):
    """What all workers counted of one model."""

    windows: list[Ended]
    counted_rows: int
    skipped_rows: int

    def as_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        windows = [window.as_dict() for window in self.windows]
        return {"counted_rows": self.counted_rows, "skipped_rows": self.skipped_rows, "windows": windows}


class ModelDrift:
    """One model's rows on their way into windows."""

    __slots__ = (
        "_due",
        "_reports",
        "_room",
        "_share",
        "_waiting",
        "_wake",
        "_windows",
        "layout",
        "plain",
        "skipped_rows",
    )

    def __init__(self, layout: Layout, share: float, lengths_s: Sequence[float], wake: Callable[[], None]) -> None:
        """Count the rows of `share` of the requests in windows of these lengths; `wake` is called where none waited."""
        self.layout = layout
        self.skipped_rows = 0  # answered, chosen, and passed over because more came than are counted
        self._wake = wake
        self._share = share
        self._due = 0.0  # requests that are to be counted yet
        self._room = ROUND_ROWS
        self._waiting: deque[tuple[Arrays, Outputs, int]] = deque()
        self._windows = Windows(layout, lengths_s)
        self._reports = DriftReports(lengths_s)
        self.plain: dict[str, Any] = self._as_plain()

    def offer(self, arrays: Arrays, outputs: Outputs, rows: int) -> None:
        """Take the first `rows` rows of an answered request, as many as there is room for. Called on the event loop."""
        if self._share < 1.0:
            self._due += self._share
            if self._due < 1.0:
                return
            self._due -= 1.0
        if rows > self._room:
            arrays, outputs, rows = self._part(arrays, outputs, rows)
        if not rows:
            return
        self._room -= rows
        self._waiting.append((arrays, outputs, rows))
        if len(self._waiting) == 1:
            self._wake()

    def _part(self, arrays: Arrays, outputs: Outputs, rows: int) -> tuple[Arrays, Outputs, int]:
        """Return evenly spread rows, as many as there is room for."""
        room = max(self._room, 0)
        if not room:
            self.skipped_rows += rows
            return arrays, outputs, 0
        step = -(-rows // room)
        spread = slice(0, rows, step)
        taken = -(-rows // step)
        self.skipped_rows += rows - taken
        # Copies, since a view would keep a whole batch in memory.
        own = Arrays(*(None if array is None else array[spread].copy() for array in arrays))
        return own, {name: values[spread].copy() for name, values in outputs.items()}, taken

    def round(self) -> None:
        """Count what waits. Called in one thread at a time."""
        batch = []
        while self._waiting:
            batch.append(self._waiting.popleft())
        self._room = ROUND_ROWS
        if batch:
            self._windows.add(self._counted(batch), time.time())
            self.plain = self._as_plain()

    def _counted(self, batch: list[tuple[Arrays, Outputs, int]]) -> WindowCounts:
        counts = WindowCounts(self.layout)
        counts.rows = sum(rows for _, _, rows in batch)
        numeric = [arrays.numeric[:rows] for arrays, _, rows in batch if arrays.numeric is not None]
        codes = [arrays.categorical[:rows] for arrays, _, rows in batch if arrays.categorical is not None]
        joined = Arrays(np.concatenate(numeric) if numeric else None, np.concatenate(codes) if codes else None)
        name = "value" if self.layout.signature.classes is None else "probabilities"
        count_predictions(counts, {name: np.concatenate([outputs[name][:rows] for _, outputs, rows in batch])})
        for place in range(len(self.layout.signature.inputs)):
            count_feature(counts, place, joined)
            time.sleep(0)  # let the event loop run
        return counts

    def observed(self, plain: Mapping[str, Any]) -> Observed:
        """Return what `plain` counts, summed over all workers, say of this model."""
        windows = self._reports.of(self.layout, plain)
        return Observed(windows, plain.get("counted", 0), plain.get("skipped", 0))

    def _as_plain(self) -> dict[str, Any]:
        return {"windows": self._windows.as_plain(), "skipped": self.skipped_rows, "counted": self._windows.rows}
