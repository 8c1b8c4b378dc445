"""From what was recorded of a request or a run to its spans, by the semantic conventions. Runs on the exporting thread."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from batchproof.service.runtime.metrics import ModelKey
from batchproof.service.runtime.tracing.context import TraceContext, new_span_id
from batchproof.service.runtime.tracing.observation import Observation, Run, Stage
from batchproof.service.runtime.tracing.variables import Headers

METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
OTHER = "_OTHER"  # what the conventions call a method that nobody knows
VARIABLE = re.compile(r"(/(models|versions|labels)/)[^/:]+")  # names in the paths of all protocols
SINGULAR = {"models": "model", "versions": "version", "labels": "label"}
HOST = re.compile(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^:\[\]/@\s]+))(?::([0-9]{1,5}))?")
MOST_CHARACTERS = 1024  # of a text that the caller chose
# The statuses that are the server's fault, by the conventions for gRPC servers.
RPC_FAULTS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})

Attributes = dict[str, str | int | float | bool]


class Span(NamedTuple):
    """One span, before the SDK makes it."""

    name: str
    context: TraceContext
    started_s: float
    ended_s: float
    attributes: Mapping[str, str | int | float | bool]
    is_server: bool = False
    error: str | None = None  # its type
    links: tuple[TraceContext, ...] = ()


class Asked(Protocol):
    """What is read of the head of a request: `batchproof.service.protocols.head.RequestHead`."""

    method: str
    path: str
    query: bytes
    headers: Headers
    request_id: str

    @property
    def http_version(self) -> str:
        """1.1 or 1.0."""

    @property
    def log_fields(self) -> dict[str, Any]:
        """The caller."""


class Ended(NamedTuple):
    """A traced request with its answer."""

    context: TraceContext
    seen: Observation
    head: Asked
    scheme: str
    ended_s: float
    status: int | str  # of HTTP, or the name of gRPC's; 0 where the caller left before its answer
    code: str | None  # of a refusal

    @property
    def span_count(self) -> int:
        """Return how many spans there will be."""
        return 1 + len(self.seen.stages)

    def spans(self) -> Iterator[Span]:
        """Yield the server's span and those of its parts."""
        is_rpc = isinstance(self.status, str)
        attributes = (_rpc if is_rpc else _http)(self) | self._common()
        error = self._error()
        if error is not None:
            attributes["error.type"] = error
        name = attributes["rpc.method"] if is_rpc else _http_name(attributes)
        own, seen = self.context, self.seen
        yield Span(str(name), own, seen.started_s, self.ended_s, attributes, is_server=True, error=error)
        for stage in seen.stages:
            context = TraceContext(own.trace_id, new_span_id(), own.span_id, own.state)
            yield _stage_span(stage, context)

    def _common(self) -> Attributes:
        seen, fields = self.seen, self.head.log_fields
        found: dict[str, Any] = {
            "batchproof.request.id": self.head.request_id,
            "batchproof.request.bytes": seen.bytes_in,
            "batchproof.response.bytes": seen.bytes_out,
            "batchproof.model.name": seen.key and seen.key.name,
            "batchproof.model.version": seen.key and seen.key.version,
            "batchproof.rows": seen.rows,
            "batchproof.error.code": self.code,
            "batchproof.caller": fields.get("caller"),
            "batchproof.skipped_spans": seen.skipped_stages or None,
            "client.address": fields.get("client"),
            "network.protocol.version": self.head.http_version if isinstance(self.status, int) else "2",
        }
        return {name: value for name, value in found.items() if value is not None}

    def _error(self) -> str | None:
        """Return the type of an error that is not the caller's; of a caller that left, that it did."""
        if isinstance(self.status, str):
            return self.status if self.status in RPC_FAULTS else None
        if self.status >= 500 or (self.status < 400 and self.code):  # the last: an answer that broke off
            return self.code or str(self.status)
        return None if self.status else "cancelled"


class SharedRun(NamedTuple):
    """A run that traced requests shared with others."""

    key: ModelKey
    run: Run
    context: TraceContext
    requests: tuple[TraceContext, ...]  # the traced ones

    @property
    def span_count(self) -> int:
        """Return how many spans there will be."""
        return 1

    def spans(self) -> Iterator[Span]:
        """Yield the span, a trace of its own with a link to each of the requests."""
        run = self.run
        named: Attributes = {"batchproof.model.name": self.key.name, "batchproof.model.version": self.key.version}
        error = "engine_failed" if run.has_failed else None
        attributes = named | _run_attributes(run) | ({"error.type": error} if error else {})
        ended_s = run.started_s + run.seconds
        yield Span("batch", self.context, run.started_s, ended_s, attributes, error=error, links=self.requests)


def _stage_span(stage: Stage, context: TraceContext) -> Span:
    run = stage.run
    if run is None:
        return Span(stage.name, context, stage.started_s, stage.ended_s, {})
    error = "engine_failed" if run.has_failed else None
    attributes = _run_attributes(run) | ({"error.type": error} if error else {})
    links = () if run.context is None else (run.context,)
    return Span(stage.name, context, stage.started_s, stage.ended_s, attributes, error=error, links=links)


def _run_attributes(run: Run) -> Attributes:
    return {"batchproof.run.requests": run.requests, "batchproof.run.rows": run.rows}


def _http(ended: Ended) -> Attributes:
    """Return the attributes of the stable conventions for HTTP servers."""
    head = ended.head
    is_known = head.method in METHODS
    found: Attributes = {
        "http.request.method": head.method if is_known else OTHER,
        "url.path": head.path[:MOST_CHARACTERS],
        "url.scheme": ended.scheme,
    }
    if not is_known:
        found["http.request.method_original"] = head.method[:MOST_CHARACTERS]
    if head.query:
        found["url.query"] = head.query[:MOST_CHARACTERS].decode("latin-1")
    if ended.status:
        found["http.response.status_code"] = int(ended.status)
    if ended.status != 404:  # the path of which leads nowhere
        found["http.route"] = VARIABLE.sub(lambda found: f"{found[1]}{{{SINGULAR[found[2]]}}}", head.path)
    return found | _named(head.headers)


def _http_name(attributes: Attributes) -> str:
    method = str(attributes["http.request.method"])
    method = "HTTP" if method == OTHER else method
    return f"{method} {attributes['http.route']}" if "http.route" in attributes else method


def _rpc(ended: Ended) -> Attributes:
    """Return the attributes of the stable conventions for gRPC servers."""
    found: Attributes = {
        "rpc.system.name": "grpc",
        "rpc.method": ended.head.path.removeprefix("/")[:MOST_CHARACTERS],
        "rpc.response.status_code": str(ended.status),
    }
    return found | _named(ended.head.headers)


def _named(headers: Headers) -> Attributes:
    """Return the server as the caller names it, and the caller's program."""
    found: Attributes = {}
    for name, value in headers:
        if name == b"host" and (parts := HOST.fullmatch(value.decode("latin-1"))):
            found["server.address"] = parts[1] or parts[2]
            if parts[3]:
                found["server.port"] = int(parts[3])
        elif name == b"user-agent":
            found["user_agent.original"] = value[:MOST_CHARACTERS].decode("latin-1")
    return found
