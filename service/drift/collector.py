"""The drift of all models of one process: `ModelDrift` takes the rows, and a thread counts them four times a second.

What counts is loaded with the first bundle that has statistics.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from batchproof.service.bundle.manifest import Manifest
from batchproof.service.runtime.logs import event

if TYPE_CHECKING:
    from batchproof.service.bundle.rows.reference import Reference
    from batchproof.service.drift.model_drift import ModelDrift, Observed

ROUND_S = 0.25
SEAL_DIGITS = 16  # of a bundle's seal that keep the counts of two bundles of one version apart


class DriftCollector:
    """The counters of drift of one process, and the thread that fills them."""

    def __init__(self, share: float, lengths_s: Sequence[float]) -> None:
        """Count the rows of `share` of the requests in windows of these lengths."""
        self.share = share
        self.lengths_s = tuple(dict.fromkeys(lengths_s))
        self._models: dict[tuple[str, int, str], ModelDrift] = {}
        self._has_rows = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def of(self, manifest: Manifest, reference: "Reference | None") -> "ModelDrift | None":
        """Return the counter of a model, the same one each time; None where nothing is counted."""
        if reference is None or self.share <= 0:
            return None
        key = _key(manifest)
        if key not in self._models:
            from batchproof.service.drift.counts import Layout
            from batchproof.service.drift.model_drift import ModelDrift

            layout = Layout(manifest.signature, reference)
            self._models[key] = ModelDrift(layout, self.share, self.lengths_s, self.wake)
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

    def observed(self, manifest: Manifest, total: Mapping[str, Any]) -> "Observed | None":
        """Return what the counts `total` of all workers say of a model; None where nothing is counted."""
        model = self._models.get(_key(manifest))
        if model is None:
            return None
        name, version, seal = _key(manifest)
        plain = total.get("drift", {}).get(name, {}).get(str(version), {}).get(seal, {})
        return model.observed(plain)

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
            if self._closing.is_set():  # what was cleared may have been the call of `close`, which comes once
                return
            self.flush()


def _key(manifest: Manifest) -> tuple[str, int, str]:
    return manifest.name, manifest.version, manifest.sha256[:SEAL_DIGITS]
