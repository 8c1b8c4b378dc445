"""The sampled audit while serving: one row of an answered batch runs again on its own, and its bits must be equal.

Most batches cost one subtraction. A violation is stored in a record file with all inputs of its batch. Only the service's
own user may read the file; the log names the file and never holds a value.
"""

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np

from batchproof.service.errors import EngineError
from batchproof.service.features.arrays import Outputs
from batchproof.service.inference.model import Model
from batchproof.service.inference.runner import Feeds, RequestRunner, rows_of
from batchproof.service.invariance.bitwise import compare_row, take
from batchproof.service.invariance.violations import Records, Violation, place_of
from batchproof.service.runtime.logs import event

DEFAULT_RATE = 1000  # one batch in this many


class Audit:
    """Chooses batches at random and checks them. Not thread-safe: each batcher has its own."""

    def __init__(self, rate: int = DEFAULT_RATE, seed: int | None = None) -> None:
        """Check one batch in `rate` on average, at random; 0 checks none. `seed` is for tests."""
        self.looked = 0
        self.violations = 0
        self._rate = rate
        self._random = random.Random(seed)  # noqa: S311 - a sample, not a secret
        self._until_next = self._gap()

    def is_due(self) -> bool:
        """Count one batch; returns whether it is to be checked."""
        self._until_next -= 1
        if self._until_next:
            return False
        self._until_next = self._gap()
        return True

    def audit_batch(
        self, runner: RequestRunner, requests: Sequence[Feeds], outputs: Sequence[Outputs]
    ) -> Violation | None:
        """Run one random row on its own; returns how it differs from `outputs`, the results of the batch."""
        sizes = [rows_of(feeds) for feeds in requests]
        if sum(sizes) < 2:
            return None
        self.looked += 1
        position = self._random.randrange(sum(sizes))
        request, row = place_of(sizes, position)
        (alone,) = runner.run([take(requests[request], np.array([row]))])
        batched = {name: array[row : row + 1] for name, array in outputs[request].items()}
        difference = compare_row(batched, alone, sum(sizes), position)
        if difference is None:
            return None
        self.violations += 1
        when = datetime.now(UTC).isoformat(timespec="milliseconds")
        return Violation(difference, tuple(sizes), tuple(requests), when)

    def _gap(self) -> int:
        # Uniform with mean `rate`, so that no rhythm of the traffic can hide from it; -1 never counts down to 0.
        return self._random.randint(1, 2 * self._rate - 1) if self._rate else -1


class Watch:
    """The audit of one model's batches. All methods are called on the event loop, after the callers were answered."""

    def __init__(self, model: Model, audit: Audit, records: Records, on_violation: Callable[[], None]) -> None:
        """Look when `audit` says so; `on_violation` is called after each violation was recorded and logged."""
        self.audit = audit
        self.is_due = audit.is_due
        self._model = model
        self._records = records
        self._on_violation = on_violation

    def look(self, requests: Sequence[Feeds], outputs: Sequence[Outputs]) -> None:
        """Run one row of the batch on its own and compare."""
        try:
            violation = self.audit.audit_batch(self._model.runner, requests, outputs)
        except EngineError as error:
            event("audit_failed", 40, **self._names, reason=str(error))
            return
        if violation is not None:
            event("invariance_violated", 40, **self._names, what=violation.sentence, record=self._record(violation))
            self._on_violation()

    @property
    def _names(self) -> dict[str, object]:
        return {"model": self._model.manifest.name, "version": self._model.manifest.version}

    def _record(self, violation: Violation) -> str:
        """Write the record; returns its path, or why it was not written, since a full disk must not stop the answers."""
        made_by = {
            **self._names,
            **self._model.fingerprint,
            **self._model.engine.description,
            "run_rows": self._model.runner.run_rows,
            "tile_rows": self._model.runner.tile_rows,
        }
        try:
            path = self._records.write(violation, made_by)
        except OSError as error:
            return f"not written: {error}"
        return str(path) if path else "not written: this process has written enough of them"
