"""What a supervisor knows of reloads: who decides, what is committed, and what workers answer. On its main thread."""

import queue
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import orjson

from batchproof.service.configuration.settings import Settings
from batchproof.service.errors import ServiceError
from batchproof.service.inference.catalogue.plan import Committed, Plan
from batchproof.service.inference.catalogue.registry import Snapshot
from batchproof.service.inference.catalogue.shelf import Shelf
from batchproof.service.runtime.change_counts import ReloadCounts
from batchproof.service.server.loading.loading import trust_of
from batchproof.service.server.loading.reloader import Order, Reloader
from batchproof.service.server.workers import control
from batchproof.service.server.workers.ballot import Ballot, CrewOfWorkers
from batchproof.service.server.workers.connection_balancer import Worker

LEAST_LOAD_S = 60.0  # that workers have to load a plan; more where loading one bundle may take longer


class Conductor:
    """Leads the workers from one committed plan to the next."""

    def __init__(
        self, settings: Settings, reread: Callable[[], Settings], snapshot: Snapshot, counts: ReloadCounts
    ) -> None:
        """Begin with what was read at the start; workers start with `start`."""
        self.start: Snapshot | Committed = snapshot
        self.plan: Plan | None = None  # what is committed, once a worker serves it
        self.workers: dict[int, Worker] = {}  # by slot; the supervisor's
        self._settings = settings
        self._reread = reread
        self._snapshot = snapshot
        self._counts = counts
        self._ballot = Ballot(
            self.workers,
            most_s=max(LEAST_LOAD_S, 4 * settings.load_timeout_s),
            is_strict=settings.invariance != "report",
        )
        self._reloader: Reloader | None = None
        self._is_rescan_due = False
        self._calls: queue.SimpleQueue[Callable[[], Any]] = queue.SimpleQueue()
        self._wake: socket.socket | None = None

    def wake_by(self, wake: socket.socket) -> None:
        """Have the main thread woken by a byte into this socket; then it calls `run_calls`."""
        self._wake = wake

    def run_calls(self) -> None:
        """Do what the reloader's thread wants to be done here."""
        while not self._calls.empty():
            self._calls.get()()

    def rescan(self) -> None:
        """Look at settings and models folder anew."""
        if self._reloader is None:
            self._is_rescan_due = True  # before the first worker serves
        else:
            self._reloader.order(Order("rescan"))

    def admit(self, worker: Worker, raw_plan: bytes) -> bool:
        """Take a worker that is ready; returns False where it serves something else than what is committed."""
        plan = Plan.from_json(raw_plan)
        if self.plan is None:
            self._begin(plan)
        assert self.plan is not None, "the first worker's plan is the first one committed"
        worker.is_outdated = plan.generation != self.plan.generation
        return not worker.is_outdated and plan.seals() == self.plan.seals()

    def on_ready(self, worker: Worker) -> None:
        """Let a worker that was admitted take part in what is under way."""
        self._ballot.on_ready(worker)

    def on_letter(self, worker: Worker, kind: bytes, body: bytes) -> None:
        """Take what a worker that was admitted says of reloads."""
        if kind == control.ORDER:
            self._on_order(worker, **orjson.loads(body))
        else:
            self._ballot.on_letter(worker, kind, body)

    def on_end(self, worker: Worker) -> None:
        """Go on without a worker."""
        self._ballot.on_end(worker)

    def look(self) -> None:
        """See to what is due; called in every turn."""
        self._ballot.look()

    def stop(self) -> None:
        """Begin nothing more."""
        self._ballot.stop()

    def is_current(self, seal: bytes) -> bool:
        """Return whether NAME/VERSION/SHA256 is committed."""
        return self.plan is None or seal in self.plan.seals()

    def call(self, function: Callable[[], Any]) -> None:
        """Have the main thread call `function`. Called in any thread."""
        self._calls.put(function)
        if self._wake is not None:
            try:
                self._wake.send(b"\0")
            except BlockingIOError:  # bytes wait there already
                return

    def _begin(self, plan: Plan) -> None:
        self.plan = plan
        shelf = Shelf(trust_of(self._settings))
        for entry in plan.entries:
            bundle = next((one for path, one in self._snapshot.bundles.items() if str(path) == entry.folder), None)
            if bundle is not None and bundle.manifest.sha256 == entry.sha256:
                shelf.hold(entry, bundle)
        crew = CrewOfWorkers(self._ballot, self.call, self._commit)
        self._reloader = Reloader(self._settings, self._reread, crew, plan, shelf, self._counts)
        self._reloader.start()
        if self._is_rescan_due:
            self.rescan()

    def _commit(self, committed: Committed) -> None:
        self.start, self.plan = committed, committed.plan

    def _on_order(self, worker: Worker, number: int, kind: Any, name: str) -> None:
        assert self._reloader is not None, "a worker that serves has been admitted"
        reply = partial(self._reply, worker, number)
        self._reloader.order(Order(kind, name, lambda error: self.call(partial(reply, error))))

    def _reply(self, worker: Worker, number: int, error: ServiceError | None) -> None:
        content: Mapping[str, Any] = {
            "number": number,
            "status": error.status if error else 0,
            "code": error.code if error else "",
            "message": error.message if error else "",
        }
        worker.unsent.extend(control.parts(control.RESULT, orjson.dumps(content)))
        worker.tell()
