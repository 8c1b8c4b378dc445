"""Coalescing: rows of many callers run together, and every reply travels with its own rows.

Everything that is ready in one turn of the event loop runs as one batch: the first ticket asks the loop to call
`_run_small` once the sockets that are ready now have been read. Nothing waits for a timer unless `wait_s` is set.
What is small or large is a matter of time, not of rows: every run teaches the batcher what a row of this model takes.
Small requests run on the event loop, where they cost no hand-over. Large ones run on one worker thread, so that the
loop stays prompt; what arrives meanwhile forms the next batch. Late and cancelled tickets are dropped before they run.

Where workers share cores, a worker that is never out of requests keeps its core until the kernel's next tick, up to 4 ms
on common kernels, while another worker's callers wait: `give_way` lets that one run between two batches.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Protocol

import numpy as np

from batchproof.service import errors
from batchproof.service.errors import EngineError, ServiceError
from batchproof.service.features.arrays import Arrays
from batchproof.service.inference.admission import Admission, Lane, Outputs, Pace, Reply, Ticket
from batchproof.service.metrics import Flow

SATURATED = "saturated"  # the output of exact graphs, [rows, 1] bool
# The most that one hand-over to the runner holds, unless a single request is larger. The loop has sockets to read, and
# what the thread has taken can no longer be dropped when it is late.
BATCH_ROWS = 4096
LOOP_BATCH_S = 0.005
THREAD_BATCH_S = 0.02


class Runs(Protocol):
    """What a batcher needs of `batchproof.service.inference.runner.Runner`: joins, cuts, pads, runs and splits."""

    def run(self, requests: Sequence[Arrays]) -> Sequence[Outputs]:
        """Return the outputs of every request, in order; raises EngineError."""


class Watches(Protocol):
    """What may look at a batch after its callers have their answers: see `batchproof.service.invariance.audit`."""

    def is_due(self) -> bool:
        """Count one batch; returns whether to look at it."""

    def look(self, requests: Sequence[Arrays], outputs: Sequence[Outputs]) -> None:
        """Look at it."""


class Batcher:
    """The queue of one model. All methods are called on the event loop."""

    def __init__(  # noqa: PLR0913 - the parts that a queue joins, most of them by name
        self,
        runner: Runs,
        admission: Admission,
        executor: Executor,
        *,
        inline_s: float,
        wait_s: float = 0.0,
        on_failure: Callable[[EngineError], None] = lambda _: None,
        watch: Watches | None = None,
        give_way: Callable[[], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Run requests of up to `inline_s` estimated seconds on the loop, larger ones on `executor` (one thread).

        `give_way` is called after every run on the loop, once its answers are written.
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
        self._give_way = give_way
        self._refusal: ServiceError | None = None
        self._clock = clock
        self._small: deque[Ticket] = deque()
        self._large: deque[Ticket] = deque()
        self._is_called = False  # whether the loop was asked to run the small ones
        self._is_busy = False  # whether the thread is running large ones

    def submit(self, arrays: Arrays, rows: int, timeout_s: float, reply: Reply) -> Ticket:
        """Admit one request; `reply` is called later, once, unless the ticket is cancelled. Raises 429 or 503."""
        if self._refusal is not None:
            raise self._refusal
        work_s = rows * self.pace.row_s
        lane = self._lane(work_s)
        self._admission.enter(rows, lane, work_s, timeout_s)
        ticket = Ticket(arrays, rows, lane, work_s, self._clock(), timeout_s, reply)
        if lane is self._admission.thread:
            self._large.append(ticket)
            self._start_large()
            if not ticket.is_running:
                ticket.timer = asyncio.get_running_loop().call_later(timeout_s, self._tell_late, ticket)
        else:
            self._small.append(ticket)
            if not self._is_called:
                self._call_small(self._wait_s)
        return ticket

    def check_room(self, rows: float, timeout_s: float) -> None:
        """Raise at once what `submit` would raise for about `rows` rows, so that a refusal costs no decoding."""
        if self._refusal is not None:
            raise self._refusal
        self._admission.check(1, self._lane(rows * self.pace.row_s), timeout_s)

    def refuse(self, refusal: ServiceError) -> None:
        """Answer every later request with `refusal`; what was admitted already still runs."""
        self._refusal = refusal

    def cancel(self, ticket: Ticket) -> None:
        """Forget a caller that went away; nothing happens where it was answered already."""
        if ticket.is_open:
            self._close(ticket)
            self.flow.cancelled_tickets += 1

    def _lane(self, work_s: float) -> Lane:
        return self._admission.thread if work_s > self._inline_s else self._admission.loop

    def _tell_late(self, ticket: Ticket) -> None:
        """Answer 504: the ticket was taken too late, or its time passed while it waited behind a long run."""
        self.flow.late_tickets += 1
        self._close(ticket)
        ticket.reply(None, errors.late(ticket.timeout_s))

    def _call_small(self, wait_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._is_called = True
        if wait_s > 0:
            loop.call_later(wait_s, self._run_small)
        else:
            loop.call_soon(self._run_small)

    def _run_small(self) -> None:
        self._is_called = False
        batch = self._take(self._small, LOOP_BATCH_S)
        if self._small:
            self._call_small(0.0)
        if not batch:
            return
        started_s = self._clock()
        try:
            outputs = self._runner.run([ticket.arrays for ticket in batch])
        except EngineError as error:
            self._fail(batch, error)
        else:
            self._answer(batch, outputs, started_s)
        if self._give_way is not None:
            self._give_way()

    def _start_large(self) -> None:
        if self._is_busy:
            return
        batch = self._take(self._large, THREAD_BATCH_S)
        if not batch:
            return
        self._is_busy = True
        loop = asyncio.get_running_loop()
        run = loop.run_in_executor(self._executor, self._runner.run, [ticket.arrays for ticket in batch])
        run.add_done_callback(partial(self._end_large, batch, self._clock()))

    def _end_large(self, batch: list[Ticket], started_s: float, run: "asyncio.Future[Sequence[Outputs]]") -> None:
        self._is_busy = False
        self._start_large()  # first, so that the thread works while the answers are written
        try:
            outputs = run.result()
        except EngineError as error:
            self._fail(batch, error)
        else:
            self._answer(batch, outputs, started_s)

    def _take(self, waiting: deque[Ticket], most_s: float) -> list[Ticket]:
        """Return the next tickets that are worth running: BATCH_ROWS rows and `most_s`, or one larger ticket."""
        now_s = self._clock()
        batch: list[Ticket] = []
        rows = 0
        while waiting and (not batch or self._fits(rows + waiting[0].rows, most_s)):
            ticket = waiting.popleft()
            if not ticket.is_open:
                continue
            if ticket.deadline_s <= now_s:
                self._tell_late(ticket)
                continue
            ticket.is_running = True
            ticket.stop_timer()
            batch.append(ticket)
            rows += ticket.rows
            self.flow.queue_s += now_s - ticket.admitted_s
        return batch

    def _fits(self, rows: int, most_s: float) -> bool:
        return rows <= BATCH_ROWS and rows * self.pace.row_s <= most_s

    def _answer(self, batch: list[Ticket], outputs: Sequence[Outputs], started_s: float) -> None:
        seconds = self._clock() - started_s
        rows = sum([ticket.rows for ticket in batch])
        self.pace.ran(rows, seconds)
        for ticket, own in zip(batch, outputs, strict=True):
            if ticket.is_open:
                self._close(ticket)
                ticket.reply(own, None)
        self.flow.ran(rows, seconds)
        if SATURATED in outputs[0]:
            self.flow.saturated_rows += sum([int(np.count_nonzero(own[SATURATED])) for own in outputs])
        if self._watch is not None and self._watch.is_due():
            self._watch.look([ticket.arrays for ticket in batch], outputs)

    def _fail(self, batch: list[Ticket], error: EngineError) -> None:
        self.flow.failed_runs += 1
        self._on_failure(error)
        for ticket in batch:
            if ticket.is_open:
                self._close(ticket)
                ticket.reply(None, errors.engine_failed())

    def _close(self, ticket: Ticket) -> None:
        ticket.is_open = False
        ticket.stop_timer()
        self._admission.leave(ticket)
