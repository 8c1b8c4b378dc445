"""What is recorded of one request and of one run on the event loop: plain times and numbers. Spans are made elsewhere.

All times are seconds of the monotonic clock, which is time.perf_counter too on Linux.
"""

import time
from typing import NamedTuple

from batchproof.service.runtime.metrics import ModelKey
from batchproof.service.runtime.tracing.context import TraceContext, new_span_id, new_trace_id

MOST_STAGES = 128  # of one request: a long table has thousands, and the first ones tell


class Run:
    """One run of the engine, which several requests may share."""

    __slots__ = ("context", "has_failed", "requests", "rows", "seconds", "started_s")

    def __init__(self, started_s: float, requests: int, rows: int) -> None:
        """Begin."""
        self.started_s = started_s
        self.seconds = 0.0
        self.requests = requests
        self.rows = rows
        self.has_failed = False
        self.context: TraceContext | None = None  # of a span of its own, where traced requests share the run

    def share(self) -> TraceContext:
        """Return the context of the run's own span, which begins a trace."""
        self.context = TraceContext(new_trace_id(), new_span_id())
        return self.context


class Stage(NamedTuple):
    """A part of a request."""

    name: str
    started_s: float
    ended_s: float
    run: Run | None = None


class Observation:
    """One request that is traced or logged."""

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "context",
        "key",
        "queue_s",
        "rows",
        "run",
        "run_s",
        "skipped_stages",
        "stages",
        "started_s",
    )

    def __init__(self, context: TraceContext | None) -> None:
        """Begin; with a `context` the request is traced."""
        self.context = context
        self.started_s = time.perf_counter()
        self.key: ModelKey | None = None  # of the model that it is for
        self.rows: int | None = None  # that the caller sent and got a prediction for
        self.bytes_in = 0  # of its body as it was sent, unpacked where it was packed
        self.bytes_out = 0
        self.queue_s = 0.0
        self.run_s = 0.0
        self.run: Run | None = None  # that of its last rows, until `waited` notes it
        self.stages: list[Stage] = []
        self.skipped_stages = 0

    def stage(self, name: str, started_s: float, ended_s: float, run: Run | None = None) -> None:
        """Record a part of a request that is traced."""
        if self.context is None:
            return
        if len(self.stages) < MOST_STAGES:
            self.stages.append(Stage(name, started_s, ended_s, run))
        else:
            self.skipped_stages += 1

    def waited(self, admitted_s: float) -> None:
        """Record that rows waited since `admitted_s` and ran; without a run they left the queue now."""
        run, self.run = self.run, None
        started_s = time.perf_counter() if run is None else run.started_s
        self.queue_s += started_s - admitted_s
        self.stage("queue", admitted_s, started_s)
        if run is not None:
            self.run_s += run.seconds
            self.stage("run", run.started_s, run.started_s + run.seconds, run)

    @property
    def fields(self) -> dict[str, object]:
        """Return what the log says of the request."""
        named = {} if self.key is None else {"model": self.key.name, "version": self.key.version}
        sizes = {"bytes_in": self.bytes_in, "bytes_out": self.bytes_out}
        times = {} if self.key is None else {"queue_s": round(self.queue_s, 6), "run_s": round(self.run_s, 6)}
        return {**named, **sizes, **times}
