"""One model watched while it serves: sampled batches are audited, and a violation is counted, recorded and reported."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from service.audit import Audit, Records, Violation
from service.errors import EngineError
from service.logs import event
from service.model import Model
from service.runner import Feeds


class Watch:
    """The audit of one model's batches. All methods are called on the event loop, after the callers were answered."""

    def __init__(self, model: Model, audit: Audit, records: Records, on_violation: Callable[[], None]) -> None:
        """Look when `audit` says so; `on_violation` is called after each violation was recorded and logged."""
        self.audit = audit
        self.is_due = audit.is_due
        self._model = model
        self._records = records
        self._on_violation = on_violation

    def look(self, requests: Sequence[Feeds], outputs: Sequence[Mapping[str, np.ndarray]]) -> None:
        """Run one row of the batch alone and compare."""
        try:
            violation = self.audit.look(self._model.runner, requests, outputs)
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
        """Write the record; returns where it is, or why there is none: a full disk must not stop the answers."""
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
