"""What the deployments of one process share, and the counts of each model."""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchproof.service.configuration.settings import Settings
from batchproof.service.drift.collector import DriftCollector
from batchproof.service.inference.admission import Admission
from batchproof.service.invariance.audit import Audit
from batchproof.service.invariance.violations import Records
from batchproof.service.protocols.interface import Limits, WireProtocol
from batchproof.service.runtime.change_counts import ShadowCounts
from batchproof.service.runtime.metrics import EXEMPLARS, Flow, ModelCounts, ModelKey, Tally
from batchproof.service.runtime.tracing import variables
from batchproof.service.server.serving.in_flight import InFlight, limit_of
from batchproof.service.tables.streaming.slots import TableSlots

if TYPE_CHECKING:
    from batchproof.service.journal.writing.opening import ProcessJournal
    from batchproof.service.runtime.processes.process_pool import ProcessPool
    from batchproof.service.server.serving.observing.observer import Observer
    from batchproof.service.tables.sandbox.remote import RemoteReader

READING_THREADS = 2  # that read the bodies of large requests and write their answers
LEAST_CODEC_BYTES = 1 << 30  # of memory for reading one body or writing one answer
OBJECT_BYTES = 32  # of memory for each byte of JSON, where it is all small objects
LAST = 19  # the nice value of a thread that runs when nothing else does


class Shared:
    """What the deployments of one process share: the bounds on what waits, the threads, the records of violations."""

    def __init__(
        self,
        settings: Settings,
        protocols: Sequence[WireProtocol],
        on_violation: Callable[[ModelKey], None],
        journal: "ProcessJournal | None" = None,
        observer: "Observer | None" = None,
    ) -> None:
        """Make them; `on_violation` is called on the event loop after a violation was recorded and logged."""
        self.settings = settings
        self.protocols = tuple(protocols)
        self.on_violation = on_violation
        self.journal = journal
        self.observer = observer
        self.drift = DriftCollector(settings.drift_share, (settings.drift_short_s, settings.drift_long_s))
        self.in_flight = InFlight(limit_of(settings))
        body_bytes = min(settings.max_body_bytes, self.in_flight.limit_bytes)
        self.limits = Limits(settings.max_rows, settings.error_limit, body_bytes)
        self.admission = Admission(settings.queue_rows)
        self.executor = ThreadPoolExecutor(1, thread_name_prefix="run")
        self.reading_executor: Executor = ThreadPoolExecutor(READING_THREADS, thread_name_prefix="read")
        self.table_executor: Executor = ThreadPoolExecutor(2 * settings.table_requests, thread_name_prefix="table")
        self.shadow_executor = ThreadPoolExecutor(1, thread_name_prefix="shadow", initializer=_run_last)
        self.table_slots = TableSlots(settings.table_requests)
        self._table_reader: RemoteReader | None = None
        self._text_processes: ProcessPool | None = None
        self._codec_processes: ProcessPool | None = None
        self._making = threading.Lock()  # of the processes
        self.records = Records(Path(settings.audit_folder) if settings.audit_folder else None)

    def table_reader(self) -> "RemoteReader":
        """Return what reads Parquet tables, in a process of its own. Called on the event loop."""
        if self._table_reader is None:
            from batchproof.service.tables.sandbox.remote import RemoteReader

            self._table_reader = RemoteReader(self.settings.table_memory_bytes)
        return self._table_reader

    def text_processes(self) -> "ProcessPool":
        """Return the processes that read and write tables of text. Called on the event loop."""
        if self._text_processes is None:
            from batchproof.service.runtime.processes.process_pool import ProcessPool
            from batchproof.service.tables.sandbox.text_remote import MODULE

            self._text_processes = ProcessPool(MODULE, self.settings.table_memory_bytes)
        return self._text_processes

    def codec_processes(self) -> "ProcessPool":
        """Return the processes that read and write large requests; they start with the first. Called in any thread."""
        with self._making:
            if self._codec_processes is None:
                from batchproof.service.runtime.processes.process_pool import ProcessPool
                from batchproof.service.server.serving.codecs.remote_codec import MODULE

                memory_bytes = LEAST_CODEC_BYTES + OBJECT_BYTES * self.limits.max_body_bytes
                self._codec_processes = ProcessPool(MODULE, memory_bytes)
            return self._codec_processes

    def counts_of_traces(self, meters: Mapping[ModelKey, "ModelMeter"]) -> dict[str, Any]:
        """Return what became of the spans so far, and examples of traced requests; nothing where none are traced."""
        tracer = None if self.observer is None else self.observer.tracer
        return {} if tracer is None else {"spans": tracer.counts(), EXEMPLARS: _exemplars_of(meters)}

    def close(self) -> None:
        """Let the threads end."""
        self.executor.shutdown(wait=True, cancel_futures=True)
        self.reading_executor.shutdown(wait=True, cancel_futures=True)
        self.table_executor.shutdown(wait=True, cancel_futures=True)
        self.shadow_executor.shutdown(wait=True, cancel_futures=True)
        if self._table_reader is not None:
            self._table_reader.close()
        for processes in (self._text_processes, self._codec_processes):
            if processes is not None:
                processes.close()
        self.drift.close()
        if self.journal is not None:
            self.journal.close(self.settings.drain_s)
        if self.observer is not None:
            self.observer.close(self.settings.drain_s)


def observer_of(settings: Settings) -> "Observer | None":
    """Return what logs and traces requests; None where they are neither logged nor traced."""
    if not settings.access_log and variables.read()[0] is None:
        return None
    from batchproof.service.server.serving.observing import observer

    return observer.observer_of(settings)


def _exemplars_of(meters: Mapping[ModelKey, "ModelMeter"]) -> dict[str, Any]:
    """Return the last traced request of each bucket of time, by model, version, route and bucket."""
    return {
        "/".join((key.name, str(key.version), route)): exemplars
        for key, meter in meters.items()
        for route, tally in meter.tallies.items()
        if (exemplars := tally.exemplars())
    }


class ModelMeter:
    """The counts of one model; deployments of the same key count on in the same ones."""

    def __init__(self) -> None:
        """Start at zero."""
        self.flow = Flow()
        self.audit: Audit | None = None
        self.tallies: dict[str, Tally] = {}  # by the name of the protocol, or "tables", or "grpc"
        self.shadows: dict[int, ShadowCounts] = {}  # by the challenger's version

    def tally(self, route: str) -> Tally:
        """Return the tally of one route, made when it is first asked for."""
        return self.tallies.setdefault(route, Tally())

    def counts(self) -> ModelCounts:
        """Return the counts of this moment."""
        audit = {"looked": self.audit.looked, "violations": self.audit.violations} if self.audit else {}
        routes = {route: tally.snapshot() for route, tally in self.tallies.items()}
        shadows = {str(version): counts.snapshot() for version, counts in self.shadows.items()}
        return ModelCounts(self.flow.snapshot(), audit, routes, shadows)


def _run_last() -> None:
    """Give way to all other threads."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LAST)  # on Linux: of this thread only
