"""The thread that makes spans and exports them. It is the one place that imports the SDK of OpenTelemetry.

The event loop hands over what it recorded and goes on; what waits is bounded, and what has no room is counted.
"""

import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Protocol
from uuid import uuid4

from opentelemetry.context import Context
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.trace.span import TraceState

import batchproof
from batchproof.service.runtime.logs import event
from batchproof.service.runtime.tracing.context import TraceContext
from batchproof.service.runtime.tracing.messages import Messages
from batchproof.service.runtime.tracing.spans import Span
from batchproof.service.runtime.tracing.variables import Tracing

SCHEMA = "https://opentelemetry.io/schemas/1.44.0"
SWITCH_S = 0.0005  # how long this thread may keep the interpreter while the event loop waits for it
CLOSE_S = 3.0  # at a stop, for what waits; a receiver that is down does not hold the stop up
PAUSE_S = 0.0001  # after the spans of each request, in which the event loop has it
SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class Recorded(Protocol):
    """What the event loop hands over."""

    @property
    def span_count(self) -> int:
        """How many spans there will be."""

    def spans(self) -> Iterator[Span]:
        """Yield them."""


class SpanExport:
    """Spans on their way out of this process."""

    def __init__(self, tracing: Tracing, messages: Messages, exporter: SpanExporter | None = None) -> None:
        """Begin to export by what the variables say; `messages` are those of the SDK, and are closed with this.

        Raises whatever the SDK raises of variables that it cannot use, and RuntimeError where no thread can be started.
        """
        self._tracing = tracing
        self._messages = messages
        self._exporter = exporter or import_module(tracing.exporter).OTLPSpanExporter()
        self._maker = _SpanMaker()
        self._waiting: deque[Recorded] = deque()
        self._added = 0  # spans; only the event loop counts here, and only the thread below
        self._taken = 0
        self.dropped = 0
        self.exported = 0
        self.failed = 0
        self._is_failing = False
        self._wakes = threading.Event()
        self._is_closed = False
        sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_S))
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    def add(self, recorded: Recorded) -> None:
        """Hand over what was recorded, or drop it where too much waits. Only the event loop calls it."""
        count = recorded.span_count
        waiting = self._added - self._taken + count
        if waiting > self._tracing.queue_spans:
            self.dropped += count
            return
        self._added += count
        self._waiting.append(recorded)
        if waiting >= self._tracing.batch_spans > waiting - count:
            self._wakes.set()

    def counts(self) -> dict[str, int]:
        """Return what became of the spans so far."""
        return {"exported": self.exported, "dropped": self.dropped, "failed": self.failed}

    def close(self, timeout_s: float) -> None:
        """Export what waits, for at most `timeout_s` and CLOSE_S."""
        self._is_closed = True
        self._wakes.set()
        self._thread.join(min(timeout_s, CLOSE_S))
        self._exporter.shutdown()
        self._messages.close()

    def _run(self) -> None:
        while not (self._is_closed and not self._waiting):
            self._wakes.wait(self._tracing.delay_s)
            self._wakes.clear()
            while self._waiting:
                if batch := self._next_batch():
                    self._export(batch)

    def _next_batch(self) -> list[ReadableSpan]:
        """Make the spans of one export."""
        batch: list[ReadableSpan] = []
        offset_ns = time.time_ns() - time.perf_counter_ns()
        while self._waiting and len(batch) < self._tracing.batch_spans:
            recorded = self._waiting.popleft()
            self._taken += recorded.span_count
            try:
                batch += [self._maker.make(span, offset_ns) for span in recorded.spans()]
            except Exception as error:  # noqa: BLE001 - of the SDK, which must not end this thread
                self._fail(recorded.span_count, repr(error))
            if not self._is_closed:
                time.sleep(PAUSE_S)
        return batch

    def _export(self, batch: list[ReadableSpan]) -> None:
        """Export, and log where that begins to fail and where it works again."""
        reason = ""
        self._messages.take()
        try:
            is_exported = self._exporter.export(batch) is SpanExportResult.SUCCESS
        except Exception as error:  # noqa: BLE001 - of an exporter, which must not end this thread
            is_exported, reason = False, repr(error)
        if not is_exported:
            self._fail(len(batch), reason or next(iter(self._messages.take()), ""))
            return
        self.exported += len(batch)
        if self._is_failing:
            event("spans_exported", spans=len(batch))
        self._is_failing = False

    def _fail(self, spans: int, reason: str) -> None:
        self.failed += spans
        if not self._is_failing:
            event("spans_not_exported", 30, spans=spans, reason=reason)
        self._is_failing = True


class _SpanMaker:
    """Makes spans of the SDK with ids and times that are known."""

    def __init__(self) -> None:
        self._ids = _Ids()
        self._last = _Last()
        self._provider = TracerProvider(ALWAYS_ON, _resource(), shutdown_on_exit=False, id_generator=self._ids)
        self._provider.add_span_processor(self._last)
        self._tracer = self._provider.get_tracer("batchproof", batchproof.__version__, SCHEMA)

    def make(self, span: Span, offset_ns: int) -> ReadableSpan:
        """Return a span that has ended; `offset_ns` is from the monotonic clock to that of the world."""
        context = self._ids.context = span.context
        made = self._tracer.start_span(
            span.name,
            _parent(context, is_remote=span.is_server),
            SpanKind.SERVER if span.is_server else SpanKind.INTERNAL,
            span.attributes,
            [Link(_span_context(link.trace_id, link.span_id)) for link in span.links],
            _ns(span.started_s, offset_ns),
        )
        if span.error is not None:
            made.set_status(Status(StatusCode.ERROR, span.error))
        made.end(_ns(span.ended_s, offset_ns))
        return self._last.span


class _Ids(IdGenerator):
    """Gives each span the ids that it was recorded with."""

    context: TraceContext

    def generate_span_id(self) -> int:
        return self.context.span_id

    def generate_trace_id(self) -> int:
        return self.context.trace_id

    def is_trace_id_random(self) -> bool:
        return False  # most are the caller's


class _Last(SpanProcessor):
    """Holds the last span that ended."""

    span: ReadableSpan

    def on_end(self, span: ReadableSpan) -> None:
        self.span = span


def _resource() -> Resource:
    """Return what the variables say of this service; it is named batchproof where they do not name it."""
    process = {"service.version": batchproof.__version__, "service.instance.id": str(uuid4())}
    given = OTELResourceDetector().detect().attributes
    name = {} if "service.name" in given else {"service.name": "batchproof"}
    own: dict[str, Any] = {key: value for key, value in {**process, **name}.items() if key not in given}
    return Resource.create(own)


def _parent(context: TraceContext, *, is_remote: bool) -> Context:
    if not context.parent_id:
        return Context()
    state = TraceState.from_header([context.state]) if context.state else None
    parent = SpanContext(context.trace_id, context.parent_id, is_remote, SAMPLED, state)
    return set_span_in_context(NonRecordingSpan(parent), Context())


def _span_context(trace_id: int, span_id: int) -> SpanContext:
    return SpanContext(trace_id, span_id, is_remote=False, trace_flags=SAMPLED)


def _ns(monotonic_s: float, offset_ns: int) -> int:
    return int(monotonic_s * 1e9) + offset_ns
