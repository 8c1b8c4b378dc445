"""A change of what is served, over all workers: every one loads it, and only then all of them swap; or none does.

The supervisor's side, on its main thread. `CrewOfWorkers` is what the reloader's thread holds of it.
"""

import queue
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson

from batchproof.service.inference.catalogue.plan import Committed, Entry, Fault, Plan
from batchproof.service.inference.catalogue.shelf import Shelf
from batchproof.service.server.workers import control
from batchproof.service.server.workers.connection_balancer import Worker

MOST_DEATHS = 2  # of workers while they load one plan: a bundle that ends processes is not tried for ever
DIFFERS = "two workers computed different bits for the same probe rows with the same engine and options"

Tell = Callable[[Fault | None], None]


@dataclass
class _Vote:
    """One phase that is under way."""

    plan: Plan
    number: int
    tell: Tell
    until_s: float
    answers: dict[int, Mapping[str, str]] = field(
        default_factory=dict
    )  # by process id: the digests of a worker that loaded
    deaths: int = 0


class Ballot:
    """Runs the two phases, one after the other."""

    def __init__(self, workers: Mapping[int, Worker], *, most_s: float, is_strict: bool) -> None:
        """Ask `workers` (by slot), each for at most `most_s`; with `is_strict` their bits must agree."""
        self._workers = workers
        self._most_s = most_s
        self._is_strict = is_strict
        self._number = 0
        self._loading: _Vote | None = None
        self._committing: set[int] = set()  # process ids that have not swapped yet
        self._tell_committed: Tell = lambda _: None

    def load(self, plan: Plan, tell: Tell) -> None:
        """Have every worker load the plan, one that starts meanwhile too; `tell` why not, or None."""
        self._number += 1
        self._loading = _Vote(plan, self._number, tell, time.monotonic() + self._most_s)
        for worker in self._workers.values():
            self.on_ready(worker)

    def commit(self, tell: Tell) -> None:
        """Have every worker that loaded the last plan serve it; `tell` None when all that live do."""
        self._tell_committed = tell
        self._committing = {worker.pid for worker in self._workers.values() if worker.is_ready and not worker.is_killed}
        for worker in self._workers.values():
            if worker.pid in self._committing:
                self._send(worker, control.COMMIT, b"%d" % self._number)
        self._end_commit()

    def on_ready(self, worker: Worker) -> None:
        """Ask a worker that is ready for its part in what is under way."""
        if self._loading is not None and worker.is_ready:
            self._send(worker, control.LOAD, b"%d %s" % (self._number, self._loading.plan.as_json()))

    def on_letter(self, worker: Worker, kind: bytes, body: bytes) -> None:
        """Take a worker's answer; one to an earlier question is dropped."""
        number, _, content = body.partition(b" ")
        vote = self._loading
        if kind == control.COMMITTED and int(number) == self._number:
            self._committing.discard(worker.pid)
            self._end_commit()
        elif vote is None or int(number) != vote.number:
            return
        elif kind == control.FAILED:
            told = orjson.loads(content)
            self._end_load(Fault(told["reason"], Entry(*told["entry"]) if told["entry"] else None))
        elif kind == control.LOADED:
            vote.answers[worker.pid] = orjson.loads(content)
            self._count()

    def on_end(self, worker: Worker) -> None:
        """Go on without a worker that died; the one that takes its place is asked anew."""
        if self._loading is not None and worker.is_ready:
            self._loading.deaths += 1
            self._loading.answers.pop(worker.pid, None)
        self._committing.discard(worker.pid)
        self._end_commit()

    def look(self) -> None:
        """End what takes too long, or what kills workers; called now and then."""
        vote = self._loading
        if vote is None:
            return
        if vote.deaths >= MOST_DEATHS:
            self._end_load(Fault(f"{vote.deaths} workers ended while they loaded it"))
        elif time.monotonic() > vote.until_s:
            self._end_load(Fault(f"a worker has not loaded it within {self._most_s:g} s"))
        else:
            self._count()

    def stop(self) -> None:
        """Begin nothing more: the service ends."""
        if self._loading is not None:
            self._end_load(Fault("the service stops"))

    def _count(self) -> None:
        vote = self._loading
        assert vote is not None, "votes are counted while there is a question"
        if self._is_strict and (entry := _differing(vote)) is not None:
            self._end_load(Fault(DIFFERS, entry))
        elif vote.answers and all(worker.pid in vote.answers for worker in self._workers.values()):
            self._end_load(None)

    def _end_load(self, fault: Fault | None) -> None:
        vote, self._loading = self._loading, None
        assert vote is not None, "a phase ends once"
        if fault is not None:
            for worker in self._workers.values():
                self._send(worker, control.ABORT, b"")
        vote.tell(fault)

    def _end_commit(self) -> None:
        if not self._committing:
            tell, self._tell_committed = self._tell_committed, lambda _: None
            tell(None)

    @staticmethod
    def _send(worker: Worker, kind: bytes, body: bytes) -> None:
        worker.unsent.extend(control.parts(kind, body))
        if worker.is_ready:
            worker.tell()


def _differing(vote: _Vote) -> Entry | None:
    """Return an entry for which two workers have other bits."""
    for entry in vote.plan.entries:
        seal = f"{entry.name}/{entry.version}/{entry.sha256}"
        if len({digests[seal] for digests in vote.answers.values() if seal in digests}) > 1:
            return entry
    return None


class CrewOfWorkers:
    """All workers, as the reloader's thread sees them: each call is made on the supervisor's main thread and waited for."""

    def __init__(
        self, ballot: Ballot, call: Callable[[Callable[[], Any]], None], on_commit: Callable[[Committed], None]
    ) -> None:
        """Have functions called on the main thread by `call`; `on_commit` is told what workers start with from then on."""
        self._ballot = ballot
        self._call = call
        self._on_commit = on_commit
        self._loaded: Committed | None = None

    def load(self, plan: Plan, shelf: Shelf) -> Fault | None:
        """Have all workers load it."""
        bundles = {entry: bundle for entry in plan.entries if (bundle := shelf.bundle(entry)) is not None}
        self._loaded = Committed(plan, bundles)
        return self._wait(partial(self._ballot.load, plan))

    def commit(self) -> None:
        """Have all workers swap. A worker that starts from now on has the new plan, whatever becomes of the others."""
        assert self._loaded is not None, "a plan is committed after it was loaded"

        def begin(tell: Tell) -> None:
            assert self._loaded is not None, "as above"
            self._on_commit(self._loaded)
            self._ballot.commit(tell)

        self._wait(begin)

    def _wait(self, begin: Callable[[Tell], None]) -> Fault | None:
        told: queue.SimpleQueue[Fault | None] = queue.SimpleQueue()
        self._call(partial(begin, told.put))
        return told.get()
