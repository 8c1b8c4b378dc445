"""A challenger beside the served version: a sample of batches also runs on it, and the two answers are compared.

It begins after the callers of the batch were answered, runs in a thread of its own with the least priority, and is
dropped where rows wait or the comparison before it has not ended: it delays no answer and changes none.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from batchproof.service.errors import EngineError
from batchproof.service.features.arrays import Arrays, Outputs
from batchproof.service.inference.model import Model
from batchproof.service.runtime.change_counts import ShadowCounts
from batchproof.service.runtime.logs import event

LOG_S = 60.0  # between two lines in the log


class Compared(NamedTuple):
    """Two answers to the same rows."""

    differences: np.ndarray  # [rows], the largest difference of a row's probabilities, or that of its value
    labels_changed: int  # rows whose label is another one


class Shadow:
    """Compares one challenger with one champion. All methods are called on the event loop."""

    def __init__(
        self,
        champion: Model,
        challenger: Model,
        share: float,
        counts: ShadowCounts,
        is_busy: Callable[[], bool],
        executor: ThreadPoolExecutor,
    ) -> None:
        """Compare `share` of the batches of the champion, as long as nothing `is_busy`."""
        self.challenger = challenger
        self.share = share
        self._champion = champion
        self._counts = counts
        self._is_busy = is_busy
        self._executor = executor
        self._random = random.Random()  # noqa: S311 - a sample, not a secret
        self._is_running = False
        self._logged_s = -LOG_S

    def is_due(self) -> bool:
        """Return whether to compare this batch; one that is left out for others' sake is counted."""
        if self._random.random() >= self.share:
            return False
        if self._is_running or self._is_busy():
            self._counts.dropped += 1
            return False
        return True

    def look(self, requests: Sequence[Arrays], outputs: Sequence[Outputs]) -> None:
        """Run the batch on the challenger, later."""
        try:
            run = asyncio.get_running_loop().run_in_executor(
                self._executor, compare, self._champion, self.challenger, requests, outputs
            )
        except RuntimeError:  # the process ends, or may start no thread
            self._counts.failed += 1
            return
        self._is_running = True
        run.add_done_callback(self._end)

    def _end(self, run: "asyncio.Future[Compared]") -> None:
        self._is_running = False
        if run.cancelled():
            return
        try:
            compared = run.result()
        except EngineError as error:
            self._counts.failed += 1
            event("shadow_failed", 30, **self._names, reason=str(error))
            return
        self._counts.compared(compared.differences.tolist(), compared.labels_changed)
        if time.monotonic() - self._logged_s >= LOG_S:
            self._logged_s = time.monotonic()
            counts = self._counts
            event(
                "shadow_compared",
                **self._names,
                rows=counts.rows,
                labels_changed=counts.labels_changed,
                largest=counts.largest,
                dropped=counts.dropped,
            )

    @property
    def _names(self) -> dict[str, Any]:
        champion = self._champion.manifest
        return {"model": champion.name, "version": champion.version, "shadow": self.challenger.manifest.version}


def compare(champion: Model, challenger: Model, requests: Sequence[Arrays], outputs: Sequence[Outputs]) -> Compared:
    """Run requests on the challenger and compare with the champion's `outputs`; raises EngineError."""
    differences: list[np.ndarray] = []
    labels_changed = 0
    for own, other in zip(outputs, challenger.runner.run(requests), strict=True):
        name = "value" if "value" in own else "probabilities"
        ours, theirs = own[name].astype(np.float64), other[name].astype(np.float64)
        differences.append(np.abs(ours - theirs).max(axis=1, initial=0.0))
        if name == "probabilities":
            labels = champion.manifest.label_places(own[name]), challenger.manifest.label_places(other[name])
            labels_changed += int(np.count_nonzero(labels[0] != labels[1]))
    return Compared(np.concatenate(differences), labels_changed)
