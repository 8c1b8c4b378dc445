"""What is recorded of requests, as spans: bounds, names, errors. The transports are in tests/service/server/test_tracing.py."""

from typing import Any

import pytest

from batchproof.service.protocols.head import RequestHead
from batchproof.service.runtime.metrics import ModelKey
from batchproof.service.runtime.tracing.context import TraceContext
from batchproof.service.runtime.tracing.observation import MOST_STAGES, Observation, Run
from batchproof.service.runtime.tracing.spans import Ended, SharedRun, Span

CONTEXT = TraceContext(7, 8, 9, "a=1")


def ended(status: int | str, code: str | None = None, **head: Any) -> Span:
    """Return the server's span of a request."""
    named = {"method": "POST", "path": "/predict", "query": b"", "headers": (), **head}
    record = Ended(CONTEXT, Observation(CONTEXT), RequestHead(**named), "http", 1.0, status, code)
    return next(record.spans())


def test_parts_of_a_request_are_bounded() -> None:
    """However many blocks a table has, a request has a bounded number of spans, and says how many are not there."""
    seen = Observation(CONTEXT)
    for place in range(1000):
        seen.stage("decode", place, place + 1)
    record = Ended(CONTEXT, seen, RequestHead("POST", "/predict", b"", ()), "http", 1.0, 200, None)
    server, *parts = record.spans()

    assert len(parts) == MOST_STAGES
    assert record.span_count == 1 + MOST_STAGES
    assert server.attributes["batchproof.skipped_spans"] == 1000 - MOST_STAGES
    assert {part.context.parent_id for part in parts} == {CONTEXT.span_id}
    assert len({part.context.span_id for part in parts}) == MOST_STAGES


def test_what_is_not_traced_keeps_no_parts() -> None:
    """A request that is logged and not traced adds its times up and keeps no stage."""
    seen = Observation(None)
    seen.run = Run(2.0, 1, 1)
    seen.run.seconds = 0.5
    seen.waited(1.5)

    assert (seen.queue_s, seen.run_s, seen.stages, seen.run) == (0.5, 0.5, [], None)


@pytest.mark.parametrize(
    "status, code, error",
    [
        (200, None, None),
        (304, None, None),
        (422, "invalid_rows", None),
        (429, "overloaded", None),
        (500, "internal", "internal"),
        (503, "draining", "draining"),
        (503, None, "503"),
        (200, "invalid_table", "invalid_table"),
        (0, None, "cancelled"),
        ("OK", None, None),
        ("INVALID_ARGUMENT", "invalid_request", None),
        ("RESOURCE_EXHAUSTED", "overloaded", None),
        ("CANCELLED", None, None),
        ("INTERNAL", "internal", "INTERNAL"),
        ("UNAVAILABLE", "draining", "UNAVAILABLE"),
        ("DEADLINE_EXCEEDED", "deadline_exceeded", "DEADLINE_EXCEEDED"),
    ],
)
def test_errors_are_those_of_the_server(status: int | str, code: str | None, error: str | None) -> None:
    """A status is an error where the conventions of HTTP's and gRPC's servers say so; its type has few values."""
    span = ended(status, code)

    assert (span.error, span.attributes.get("error.type")) == (error, error)
    assert span.attributes.get("batchproof.error.code") == code
    assert ("http.response.status_code" in span.attributes) == (isinstance(status, int) and status > 0)


@pytest.mark.parametrize(
    "path, route",
    [
        ("/predict", "/predict"),
        ("/ml/models/penguins/predict", "/ml/models/{model}/predict"),
        ("/models/penguins/labels/prod/predict", "/models/{model}/labels/{label}/predict"),
        ("/v1/models/penguins/versions/3:predict", "/v1/models/{model}/versions/{version}:predict"),
        ("/v2/models/penguins/versions/3/infer", "/v2/models/{model}/versions/{version}/infer"),
        ("/models", "/models"),
    ],
)
def test_routes_are_templates(path: str, route: str) -> None:
    """The route names no model, version or label, in the paths of every protocol; a path without an answer has none."""
    span = ended(200, path=path)

    assert (span.attributes["http.route"], span.attributes["url.path"], span.name) == (route, path, f"POST {route}")
    assert "http.route" not in ended(404, path=path).attributes


def test_methods_that_nobody_knows_are_one() -> None:
    """The name of a span has few values, whatever method a caller invents."""
    span = ended(405, method="BREW", path="/pot")

    assert span.name == "HTTP /pot"
    assert span.attributes["http.request.method"] == "_OTHER"
    assert span.attributes["http.request.method_original"] == "BREW"


@pytest.mark.parametrize(
    "host, address, port",
    [
        (b"example.org", "example.org", None),
        (b"example.org:8443", "example.org", 8443),
        (b"[2001:db8::1]:80", "2001:db8::1", 80),
        (b"a b", None, None),
        (b"x" * 5000, "x" * 5000, None),
    ],
)
def test_the_server_is_named_as_the_caller_names_it(host: bytes, address: str | None, port: int | None) -> None:
    """The host header gives address and port; one that is not valid gives none."""
    found = ended(200, headers=[(b"host", host), (b"user-agent", b"curl/8")]).attributes

    assert (found.get("server.address"), found.get("server.port")) == (address, port)
    assert found["user_agent.original"] == "curl/8"


def test_the_query_and_the_version_of_http_are_there() -> None:
    """A request has its query where it has one, and the version of HTTP that it came with."""
    head = RequestHead("POST", "/predict", b"extra=ignore", ())
    head.version = "1.0"
    record = Ended(CONTEXT, Observation(CONTEXT), head, "https", 1.0, 200, None)
    found = next(record.spans()).attributes

    assert (found["url.query"], found["url.scheme"], found["network.protocol.version"]) == (
        "extra=ignore",
        "https",
        "1.0",
    )


@pytest.mark.parametrize("has_failed", [False, True])
def test_a_shared_run_has_a_trace_of_its_own(*, has_failed: bool) -> None:
    """Its span links to each request, and fails as the run does; the part of a request links back."""
    run = Run(1.0, 3, 12)
    run.seconds, run.has_failed = 0.5, has_failed
    context = run.share()
    (span,) = SharedRun(ModelKey("flowers", 2), run, context, (CONTEXT, TraceContext(17, 18))).spans()
    seen = Observation(CONTEXT)
    seen.run = run
    seen.waited(0.5)
    _, _, part = Ended(CONTEXT, seen, RequestHead("POST", "/predict", b"", ()), "http", 2.0, 200, None).spans()

    assert (span.name, span.links, span.context.parent_id) == ("batch", (CONTEXT, TraceContext(17, 18)), 0)
    assert (part.name, part.links, part.error) == ("run", (context,), "engine_failed" if has_failed else None)
    assert span.error == part.error
    for one in (span, part):
        assert (one.started_s, one.ended_s) == (1.0, 1.5)
        assert (one.attributes["batchproof.run.requests"], one.attributes["batchproof.run.rows"]) == (3, 12)
