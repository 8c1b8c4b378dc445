"""Requests that are observed: one line each in the access log, and spans of those that are traced.

Where neither is asked for there is no observer, and nothing of this file runs: queues and router are then of the plain
kind. Where one is, the router sends the requests that are observed to the twins of the endpoints, and all others to the
endpoints themselves (`deployment`, `server.http.router`).
"""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from batchproof.service.configuration.settings import Settings
from batchproof.service.errors import ServiceError
from batchproof.service.inference.batcher import Batcher
from batchproof.service.inference.timed_batcher import TimedBatcher
from batchproof.service.protocols.head import RequestHead
from batchproof.service.protocols.interface import Answer, Decoded, WireProtocol
from batchproof.service.runtime.logs import event
from batchproof.service.runtime.metrics import ModelKey
from batchproof.service.runtime.tracing.context import TraceContext
from batchproof.service.runtime.tracing.observation import Observation, Run
from batchproof.service.runtime.tracing.spans import Ended, SharedRun
from batchproof.service.runtime.tracing.tracer import Tracer, open_tracer
from batchproof.service.server.serving.endpoint import PredictEndpoint, Work


class Observer:
    """Observes the requests of one process. All methods are called on the event loop."""

    def __init__(self, tracer: Tracer | None, scheme: str, *, is_logged: bool) -> None:
        """Trace with `tracer` if there is one, and log each request with `is_logged`; `scheme` is http or https."""
        self.tracer = tracer
        self._scheme = scheme
        self._is_logged = is_logged
        # Whether only requests are observed whose `traceparent` says that they are sampled.
        self.follows_header = not is_logged and tracer is not None and tracer.follows_header

    def begin(self, head: RequestHead) -> Observation | None:
        """Note on its head whether a request is observed, and since when."""
        context = None if self.tracer is None else self.tracer.context_of(head.special, head.headers)
        seen = head.observation = Observation(context) if context is not None or self._is_logged else None
        return seen

    def end(
        self,
        head: RequestHead,
        status: int,
        where: dict[str, Any],
        started_s: float,
        code: str | None = None,
        rpc_status: str | None = None,
    ) -> None:
        """Log and trace an answer of HTTP's `status`; `where` are the fields that say which route answered.

        The line's seconds begin at `started_s`. Status 0: the caller left before its answer, which the log passes over.
        """
        seen = head.seen
        if seen is None:
            return
        ended_s = time.perf_counter()
        ids, head.observation = head.ids, None  # so that a request ends once
        if seen.context is not None and self.tracer is not None:
            shown = status if rpc_status is None else rpc_status
            self.tracer.add(Ended(seen.context, seen, head, self._scheme, ended_s, shown, code))
        if self._is_logged and status:
            result = {"rows": seen.rows, "code": code}
            given = {name: value for name, value in result.items() if value is not None}
            seconds = round(ended_s - started_s, 6)
            named = {**where, **head.log_fields, "status": status, **given, **seen.fields, "seconds": seconds}
            event("request", **ids, **named)

    def close(self, timeout_s: float) -> None:
        """Export the spans that wait, for at most `timeout_s`."""
        if self.tracer is not None:
            self.tracer.close(timeout_s)

    def twin(self, *parts: Any, **named: Any) -> PredictEndpoint:
        """Return an endpoint of these parts for the requests that are observed."""
        return ObservedEndpoint(self, *parts, **named)

    def watch(self, batcher: Batcher, key: ModelKey) -> None:
        """Trace the runs of a queue that several requests share."""
        if self.tracer is not None and isinstance(batcher, TimedBatcher):
            batcher.on_shared = partial(self.on_shared, key)

    def on_shared(self, key: ModelKey, run: Run, requests: Sequence[TraceContext]) -> None:
        """Trace a run that several requests shared, of which `requests` are the traced ones."""
        if self.tracer is not None:
            self.tracer.add(SharedRun(key, run, run.share(), tuple(requests)))


class ObservedEndpoint(PredictEndpoint):
    """The twin of an endpoint, for the requests that are observed; the others never come here."""

    __slots__ = ("_observer", "_timed_batcher", "_where")

    def __init__(self, observer: Observer, key: ModelKey, protocol: WireProtocol, *parts: Any, **named: Any) -> None:
        """Take what a `PredictEndpoint` takes after the `observer`; its queue is a `TimedBatcher`."""
        super().__init__(key, protocol, *parts, **named)
        assert isinstance(self._batcher, TimedBatcher), "where requests are observed, queues note when they ran"
        self._timed_batcher = self._batcher
        self._observer = observer
        self._where = {"route": protocol.name}

    def cancel(self, work: Work) -> None:
        """Forget a caller that went away."""
        super().cancel(work)
        self._end(work.head, 0, work=work)

    def _submit(self, work: Work, decoded: Decoded, timeout_s: float) -> None:
        super()._submit(work, decoded, timeout_s)
        seen, ticket = work.head.seen, work.ticket
        if seen is not None and ticket is not None:
            seen.stage("decode", work.started_s, ticket.admitted_s)
            self._timed_batcher.observed[ticket] = seen

    def _send(self, work: Work, rows: int, answer: Answer) -> None:
        seen = work.head.seen
        if seen is not None:
            seen.rows = rows
            if seen.context is not None:
                self._tally.exemplify(work.started_s, seen.context.ids)
        self._end(work.head, answer.status, work=work, sent=answer)
        super()._send(work, rows, answer)

    def _refused(self, error: ServiceError, head: RequestHead, work: Work | None = None) -> Answer:
        answer = super()._refused(error, head, work)
        self._end(head, answer.status, error.code, work=work, sent=answer)
        return answer

    def _end(
        self,
        head: RequestHead,
        status: int,
        code: str | None = None,
        *,
        work: Work | None = None,
        sent: Answer | None = None,
    ) -> None:
        """Note how far the request came, and that it ends here."""
        seen, now_s = head.seen, time.perf_counter()
        if work is not None and work.ticket is not None:
            self._timed_batcher.observed.pop(work.ticket, None)
        if seen is None:
            return
        seen.key = self.key
        if sent is not None:
            seen.bytes_out = len(sent.body)
        if work is not None:
            seen.bytes_in = seen.bytes_in or len(work.body)
            if work.ticket is None:
                seen.stage("decode", work.started_s, now_s)
            else:
                seen.waited(work.ticket.admitted_s)
            if work.encoding_s > work.started_s:
                seen.stage("encode", work.encoding_s, now_s)
        self._observer.end(head, status, self._where, now_s if work is None else work.started_s, code)


def observer_of(settings: Settings) -> Observer | None:
    """Return the observer that the settings and the environment ask for; None where nothing is observed."""
    tracer = open_tracer()
    if tracer is None and not settings.access_log:
        return None
    return Observer(tracer, "https" if settings.tls_cert else "http", is_logged=settings.access_log)
