"""A receiver of OpenTelemetry's protocol over HTTP, for tests of what the service exports."""

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE_ID}-{PARENT_ID}-01"
UNSAMPLED = f"00-{TRACE_ID}-{PARENT_ID}-00"
KINDS = {1: "internal", 2: "server"}


class Span(NamedTuple):
    """One span as it was received; ids in hexadecimal, times in nanoseconds since 1970."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    state: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    links: tuple[tuple[str, str], ...]  # (trace id, span id)
    is_error: bool
    service: str


class Receiver:
    """What came so far."""

    def __init__(self) -> None:
        self.url = ""
        self.spans: list[Span] = []
        self.heads: list[dict[str, str]] = []
        self.status = 200
        self.gate = threading.Event()  # while it is clear, exports wait
        self.gate.set()

    def environment(self, **more: str) -> dict[str, str]:
        """Return the variables of a service that exports to here at once."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "20", **more}

    def of_trace(self, trace_id: str) -> list[Span]:
        """Return the spans of one trace."""
        return [span for span in self.spans if span.trace_id == trace_id]

    def wait(self, is_there: Callable[[], Any], what: str) -> Any:
        """Return what `is_there` finds as soon as it finds something."""
        end_s = time.monotonic() + 30
        while time.monotonic() < end_s:
            if found := is_there():
                return found
            time.sleep(0.02)
        raise AssertionError(f"{what} did not come; there are {[span.name for span in self.spans]}")

    def request(self, request_id: str, parts: int = 4, name: str = "") -> tuple[Span, list[Span]]:
        """Return the server's span of a request whose name begins so, and its parts once there are so many."""
        is_id = lambda span: span.attributes.get("batchproof.request.id") == request_id  # noqa: E731
        matches = lambda span: is_id(span) and span.name.startswith(name)  # noqa: E731
        server = self.wait(lambda: next(filter(matches, self.spans), None), f"the span of {request_id}")
        children = lambda: [span for span in self.spans if span.parent_id == server.span_id]  # noqa: E731
        self.wait(lambda: len(children()) >= parts, f"{parts} parts of {request_id}")
        return server, children()

    def take(self, body: bytes) -> None:
        """Add what one export holds."""
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = _plain(resource.resource.attributes)["service.name"]
            self.spans += [_span(span, service) for scope in resource.scope_spans for span in scope.spans]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Receive until the block ends."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            body = gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body
            receiver.heads.append({**dict(self.headers.items()), "path": self.path})
            receiver.gate.wait(30)
            if receiver.status == 200:
                receiver.take(body)
            self.send_response(receiver.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _span(span: Any, service: str) -> Span:
    return Span(
        span.name,
        KINDS[span.kind],
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.trace_state,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        _plain(span.attributes),
        tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        span.status.code == 2,
        service,
    )


def _plain(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
