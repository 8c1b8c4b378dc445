"""Rows counted beside the hot path: the event loop hands references over, and a thread counts them four times a second.

`ModelDrift.offer` costs an answer a few tenths of a microsecond: it appends a tuple, and starts or wakes the thread where
nothing waited. Between two rounds of the thread a model has room for ROUND_ROWS rows; what does not fit is passed over and
counted, so under load drift costs less and not more. A request with more rows than there is room for gives every k-th.

The thread lets others run between two features, so that it keeps no answer waiting for longer than one of them takes.
"""

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from batchproof.service.bundle.manifest import Manifest
from batchproof.service.bundle.rows.reference import Reference
from batchproof.service.drift.counts import Layout, WindowCounts, count_feature, count_predictions
from batchproof.service.drift.windows import DriftReports, Ended, Windows
from batchproof.service.features.arrays import Arrays, Outputs
from batchproof.service.runtime.logs import event

ROUND_S = 0.25
ROUND_ROWS = 256  # of one model that are counted in one round
SEAL_DIGITS = 16  # of a bundle's seal that keep the counts of two bundles of one version apart


class Observed(NamedTuple):
    """What all workers counted of one model."""

    windows: list[Ended]
    counted_rows: int
    skipped_rows: int

    def as_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        windows = [window.as_dict() for window in self.windows]
        return {"counted_rows": self.counted_rows, "skipped_rows": self.skipped_rows, "windows": windows}


class DriftCollector:
    """The counters of drift of one process, and the thread that fills them."""

    def __init__(self, share: float, lengths_s: Sequence[float]) -> None:
        """Count the rows of `share` of the requests in windows of these lengths."""
        self.share = share
        self.lengths_s = tuple(dict.fromkeys(lengths_s))
        self._models: dict[tuple[str, int, str], ModelDrift] = {}
        self._reports = DriftReports(self.lengths_s)
        self._has_rows = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def of(self, manifest: Manifest, reference: Reference | None) -> "ModelDrift | None":
        """Return the counter of a model, the same one each time; None where nothing is counted."""
        if reference is None or self.share <= 0:
            return None
        key = _key(manifest)
        if key not in self._models:
            self._models[key] = ModelDrift(Layout(manifest.signature, reference), self)
        return self._models[key]

    def wake(self) -> None:
        """Let the thread count what waits, after a moment in which more may come."""
        if self._thread is None and not self._closing.is_set():
            thread = threading.Thread(target=self._run, name="drift", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the process may start no thread: the next row tries again
                event("drift_not_counted", 30, reason=str(error))
                return
            self._thread = thread
        self._has_rows.set()

    def counts(self) -> dict[str, Any]:
        """Return what was counted as plain data: {name: {version: {seal: counts}}}."""
        plain: dict[str, Any] = {}
        for (name, version, seal), model in list(self._models.items()):
            plain.setdefault(name, {}).setdefault(str(version), {})[seal] = model.plain
        return plain

    def observed(self, manifest: Manifest, total: Mapping[str, Any]) -> Observed | None:
        """Return what the counts `total` of all workers say of a model; None where nothing is counted."""
        model = self._models.get(_key(manifest))
        if model is None:
            return None
        name, version, seal = _key(manifest)
        plain = total.get("drift", {}).get(name, {}).get(str(version), {}).get(seal, {})
        windows = self._reports.of(model.layout, plain)
        return Observed(windows, plain.get("counted", 0), plain.get("skipped", 0))

    def flush(self) -> None:
        """Count what waits, in the calling thread."""
        for model in list(self._models.values()):
            model.round()

    def close(self) -> None:
        """End the thread; what waits is not counted."""
        self._closing.set()
        self._has_rows.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            self._has_rows.wait()
            if self._closing.wait(ROUND_S):
                return
            self._has_rows.clear()  # first: a row that comes during the round sets it again
            self.flush()


def _key(manifest: Manifest) -> tuple[str, int, str]:
    return manifest.name, manifest.version, manifest.sha256[:SEAL_DIGITS]


class ModelDrift:
    """One model's rows on their way into windows."""

    __slots__ = ("_collector", "_due", "_room", "_share", "_waiting", "_windows", "layout", "plain", "skipped_rows")

    def __init__(self, layout: Layout, collector: DriftCollector) -> None:
        """Start with nothing counted."""
        self.layout = layout
        self.skipped_rows = 0  # answered, chosen, and passed over because more came than are counted
        self._collector = collector
        self._share = collector.share
        self._due = 0.0  # requests that are to be counted yet
        self._room = ROUND_ROWS
        self._waiting: deque[tuple[Arrays, Outputs, int]] = deque()
        self._windows = Windows(layout, collector.lengths_s)
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
            self._collector.wake()

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

    def _as_plain(self) -> dict[str, Any]:
        return {"windows": self._windows.as_plain(), "skipped": self.skipped_rows, "counted": self._windows.rows}
