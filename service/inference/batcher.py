"""Dynamic batching: rows of many callers run together, and each caller gets the outputs of its own rows.

All requests that are ready in one turn of the event loop run as one batch: the first ticket asks the loop to call
`_run_small` after the sockets that are ready now have been read. No request waits for a timer unless `wait_s` is set, or
answers wait for a recorder.
Time decides what is small or large, not rows: every run updates the estimate of seconds per row of this model.
Small requests run on the event loop and cost no hand-over. Large ones run on one worker thread, so that the loop stays
responsive; requests that arrive meanwhile form the next batch. Late and cancelled tickets are dropped before they run.

Every ticket of a batch gets a reply, even if its run or an earlier reply raises: see `_end` and `_deliver`.

Where workers share cores, a worker with requests always waiting keeps its core until the kernel's next tick, up to 4 ms
on common kernels, while callers of other workers wait. `give_way` yields the core between two batches.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any, Protocol, TypeAlias

import numpy as np

from batchproof.service import errors
from batchproof.service.errors import EngineError, ServiceError
from batchproof.service.features.arrays import Arrays, Outputs
from batchproof.service.inference.admission import Admission, Lane, Pace, Reply, Ticket
from batchproof.service.inference.runner import RequestRunner
from batchproof.service.runtime.metrics import Flow

Delivery: TypeAlias = tuple[Ticket, Outputs | None, ServiceError | None]  # exactly one of the last two is given
SATURATED = "saturated"  # the output of exact graphs, [rows, 1] bool
# The most rows of one batch, unless a single request is larger. The loop has sockets to read, and a batch that the
# thread has started can no longer drop its late tickets.
BATCH_ROWS = 4096
LOOP_BATCH_S = 0.005
THREAD_BATCH_S = 0.02
STUCK_S, STUCK_FACTOR = 60.0, 20.0  # a run on the thread may take the larger of both: seconds, times its estimate


class Watches(Protocol):
    """What may inspect a batch after its replies: see `batchproof.service.invariance.audit`."""

    def is_due(self) -> bool:
        """Count one batch; returns whether to inspect it."""

    def look(self, requests: Sequence[Arrays], outputs: Sequence[Outputs]) -> None:
        """Inspect one batch."""


class Recorder(Protocol):
    """What keeps rows and outputs before they are answered: see `batchproof.service.journal`."""

    def record(self, tickets: Sequence[Ticket], outputs: Sequence[Outputs]) -> None:
        """Take one batch; may let the answers of its tickets wait."""

    def postpone(self, run: Callable[[], None]) -> bool:
        """Call `run` when the answers that wait now have left, or soon after; False where none waits."""


class Batcher:
    """The queue of one model. All methods are called on the event loop."""

    def __init__(  # noqa: PLR0913 - the parts that a queue joins, most of them by name
        self,
        runner: RequestRunner,
        admission: Admission,
        executor: Executor,
        *,
        inline_s: float,
        wait_s: float = 0.0,
        on_failure: Callable[[EngineError], None] = lambda _: None,
        watch: Watches | None = None,
        recorder: Recorder | None = None,
        give_way: Callable[[], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Run requests of up to `inline_s` estimated seconds on the loop, larger ones on `executor` (one thread).

        `on_failure` hears of every run that failed; `give_way` is called after every run on the loop and its replies.
        """
        self.flow = Flow()
        self.pace = Pace()
        self._runner = runner
        self._admission = admission
        self._executor = executor
        self._inline_s = inline_s
        self._wait_s = wait_s
        self._on_failure = on_failure
        self._watch = watch
        self._recorder = recorder
        self.shadow: Watches | None = None  # what compares another version with this one; it may come and go
        self._give_way = give_way
        self._refusal: ServiceError | None = None
        self._clock = clock
        self._small: deque[Ticket] = deque()
        self._large: deque[Ticket] = deque()
        self._is_called = False  # whether a call of _run_small is scheduled
        self._is_busy = False  # whether the thread runs a batch
        self._stuck_at_s = math.inf  # when the batch of the thread has taken so long that it may never end

    def submit(self, arrays: Arrays, rows: int, timeout_s: float, reply: Reply, note: Any = None) -> Ticket:
        """Admit one request; `reply` is called once and later, unless the ticket is cancelled. Raises 429 or 503.

        A request with a `note` is recorded where there is a recorder, before the reply is called.
        """
        if self._refusal is not None:
            raise self._refusal
        work_s = rows * self.pace.row_s
        lane = self._lane(work_s)
        self._admission.enter(rows, lane, work_s, timeout_s)
        ticket = Ticket(arrays, rows, lane, work_s, self._clock(), timeout_s, reply)
        ticket.note = note
        if lane is self._admission.thread:
            self._large.append(ticket)
            self._start_large()
            if not ticket.is_running:
                ticket.timer = asyncio.get_running_loop().call_later(timeout_s, self._expire, ticket)
        else:
            self._small.append(ticket)
            if not self._is_called:
                self._call_small(self._wait_s)
        return ticket

    def check_room(self, rows: float, timeout_s: float) -> None:
        """Raise what `submit` would raise for about `rows` rows, so that a refusal costs no decoding."""
        if self._refusal is not None:
            raise self._refusal
        self._admission.check(1, self._lane(rows * self.pace.row_s), timeout_s)

    def refuse(self, refusal: ServiceError) -> None:
        """Raise `refusal` for every later request; admitted requests still run."""
        self._refusal = refusal

    @property
    def is_stuck(self) -> bool:
        """Whether the thread's batch has run so much longer than was estimated that it may never end."""
        return self._clock() > self._stuck_at_s

    def cancel(self, ticket: Ticket) -> None:
        """Drop the ticket of a caller that went away; a ticket that was answered stays as it is."""
        if ticket.is_open:
            self._close(ticket)
            self.flow.cancelled_tickets += 1

    def _lane(self, work_s: float) -> Lane:
        return self._admission.thread if work_s > self._inline_s else self._admission.loop

    def _expire(self, ticket: Ticket) -> None:
        """Answer 504: the deadline passed while the ticket waited."""
        if ticket.is_open:
            self.flow.late_tickets += 1
            self._deliver(iter([(ticket, None, errors.late(ticket.timeout_s))]))

    def _call_small(self, wait_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._is_called = True
        if wait_s > 0:
            loop.call_later(wait_s, self._run_small)
        # Callers whose answers are held ask again when they have them: one batch of all costs less than two of half of them.
        elif self._recorder is None or not self._recorder.postpone(self._run_small):
            loop.call_soon(self._run_small)

    def _run_small(self) -> None:
        self._is_called = False
        batch = self._take(self._small, LOOP_BATCH_S)
        if self._small:
            self._call_small(0.0)
        if batch:
            started_s = self._clock()
            self._end(batch, started_s, partial(self._runner.run, [ticket.arrays for ticket in batch]))
            if self._give_way is not None:
                self._give_way()

    def _start_large(self) -> None:
        if self._is_busy:
            return
        batch = self._take(self._large, THREAD_BATCH_S)
        if not batch:
            return
        loop, requests = asyncio.get_running_loop(), [ticket.arrays for ticket in batch]
        try:
            run = loop.run_in_executor(self._executor, self._runner.run, requests)
        except RuntimeError as error:  # the process may start no thread
            # Later, because the caller that brought these rows has not got its ticket yet.
            loop.call_soon(self._fail, batch, EngineError(f"the worker thread cannot start: {error}"))
            return
        self._is_busy = True
        work_s = sum([ticket.work_s for ticket in batch])
        self._stuck_at_s = self._clock() + max(STUCK_S, STUCK_FACTOR * work_s)
        run.add_done_callback(partial(self._end_large, batch, self._clock()))

    def _end_large(self, batch: list[Ticket], started_s: float, run: "asyncio.Future[Sequence[Outputs]]") -> None:
        self._is_busy = False
        self._stuck_at_s = math.inf
        self._start_large()  # first, so that the thread works while the answers are written
        self._end(batch, started_s, run.result)

    def _take(self, waiting: deque[Ticket], most_s: float) -> list[Ticket]:
        """Return the next open tickets, up to BATCH_ROWS rows and `most_s` seconds, or one larger ticket."""
        now_s = self._clock()
        batch: list[Ticket] = []
        rows = 0
        most_rows = min(BATCH_ROWS, most_s / self.pace.row_s)
        while waiting and (not batch or rows + waiting[0].rows <= most_rows):
            ticket = waiting.popleft()
            if not ticket.is_open:
                continue
            if ticket.deadline_s <= now_s:
                asyncio.get_running_loop().call_soon(self._expire, ticket)
                continue
            ticket.is_running = True
            if ticket.timer is not None:
                ticket.stop_timer()
            batch.append(ticket)
            rows += ticket.rows
            self.flow.queue_s += now_s - ticket.admitted_s
        return batch

    def _end(self, batch: list[Ticket], started_s: float, result: Callable[[], Sequence[Outputs]]) -> None:
        """Answer every ticket of a batch, whatever `result` raises; only an EngineError ends here."""
        failure: EngineError | None = None
        answers: list[Delivery] | None = None
        try:
            outputs = result()
            seconds = self._clock() - started_s
            if self._recorder is not None:
                self._recorder.record(batch, outputs)
            answers = [(ticket, own, None) for ticket, own in zip(batch, outputs, strict=True)]
        except EngineError as error:
            failure = error
        finally:
            if answers is None:
                self._fail(batch, failure or EngineError("an unforeseen error: see the event unforeseen_error"))
        if answers is not None:
            self._answer(batch, outputs, answers, seconds)

    def _answer(self, batch: list[Ticket], outputs: Sequence[Outputs], answers: list[Delivery], seconds: float) -> None:
        rows = sum([ticket.rows for ticket in batch])
        self.pace.ran(rows, seconds)
        self.flow.ran(rows, seconds)
        if SATURATED in outputs[0]:
            self.flow.saturated_rows += sum([int(np.count_nonzero(own[SATURATED])) for own in outputs])
        self._deliver(iter(answers))
        if self._watch is not None and self._watch.is_due():
            self._watch.look([ticket.arrays for ticket in batch], outputs)
        if self.shadow is not None and self.shadow.is_due():
            self.shadow.look([ticket.arrays for ticket in batch], outputs)

    def _fail(self, batch: list[Ticket], error: EngineError) -> None:
        self.flow.failed_runs += 1
        try:
            self._on_failure(error)
        finally:
            self._deliver(iter([(ticket, None, errors.engine_failed()) for ticket in batch]))

    def _deliver(self, deliveries: Iterator[Delivery]) -> None:
        """Call the reply of each open ticket.

        A reply that raises ends this call, and the event loop's exception handler logs it. By then, the rest of
        `deliveries` is scheduled as another callback. So a failing reply does not affect the other callers.
        """
        is_delivered = False
        try:
            for ticket, outputs, error in deliveries:
                if ticket.is_open:
                    reply = ticket.reply
                    self._close(ticket)
                    reply(outputs, error)
            is_delivered = True
        finally:
            if not is_delivered:
                self.flow.failed_replies += 1
                asyncio.get_running_loop().call_soon(self._deliver, deliveries)

    def _close(self, ticket: Ticket) -> None:
        ticket.is_open = False
        # Which may refer to the ticket: its arrays and model are freed now, not by a collector.
        ticket.reply = _no_reply
        if ticket.timer is not None:
            ticket.stop_timer()
        self._admission.leave(ticket)


def _no_reply(_outputs: Outputs | None, _error: ServiceError | None) -> None:
    """Stand for the reply of a ticket that is closed."""
