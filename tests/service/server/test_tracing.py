"""Traces over every transport, with a real service, a real receiver and the SDK of OpenTelemetry between them."""

import asyncio
import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from batchproof import AsyncClient, Client
from batchproof.service.runtime.tracing.variables import LIMITS
from batchproof.service.server.grpc.messages import SERVICE, classes
from tests.bundles import make_bundle
from tests.http_client import Answer, ask
from tests.live import Live, free_port, live
from tests.otlp import PARENT_ID, SAMPLED, TRACE_ID, UNSAMPLED, Receiver, receiving

MESSAGES = classes()
ROW = [40.5, "Oslo", 3, "2020-01-01", True, 1, None]
GOOD = {"rows": [ROW, ROW]}
TABLE = "length_mm,island,count,seen,adult,grade,owned\n" + "40.5,Oslo,3,2020-01-01,true,1,\n" * 5000
STAGES = ["decode", "queue", "run", "encode"]
TRANSPORTS = ("fast path", "ASGI", "table", "gRPC")


@dataclass(frozen=True)
class Traced(Live):
    """A server, its receiver and a channel to it."""

    receiver: Receiver
    channel: grpc.Channel


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    make_bundle(folder)
    return folder


@pytest.fixture(scope="module", params=["1", "2"], ids=["1 worker", "2 workers"])
def server(models: Path, request: pytest.FixtureRequest) -> Iterator[Traced]:
    """Serve over HTTP and gRPC with one and with two workers, and trace what callers trace."""
    port = free_port()
    flags = ("--workers", request.param, "--grpc-port", str(port), "--access-log", "true", "--batch-wait-s", "0.02")
    with (
        receiving() as receiver,
        live(models, *flags, environment=receiver.environment()) as found,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        yield Traced(found.host, found.port, found.process, receiver, channel)


def send(server: Traced, transport: str, request_id: str, traceparent: str, *, is_good: bool = True) -> int | str:
    """Send a prediction, or what is refused; returns the status."""
    headers = {"x-request-id": request_id, "traceparent": traceparent, "tracestate": "vendor=1"}
    named = {name.replace("-", "_"): value for name, value in headers.items()}
    if transport == "gRPC":
        return call(server.channel, "ModelInfer", infer(is_good=is_good), headers)
    if transport == "table":
        body = TABLE if is_good else "length_mm\n1\n"
        return ask(server, "POST", "/predict", body, content_type="text/csv", **named).status
    long_way = {"content_encoding": "identity"} if transport == "ASGI" else {}
    return ask(server, "POST", "/predict", GOOD if is_good else {"rows": [[1]]}, **named, **long_way).status


def call(channel: grpc.Channel, method: str, request: Any, metadata: dict[str, str]) -> str:
    """Return the status of one call."""
    serialize, parse = MESSAGES[f"{method}Request"].SerializeToString, MESSAGES[f"{method}Response"].FromString
    asked = channel.unary_unary(f"/{SERVICE}/{method}", serialize, parse)
    answer = asked.future(request, metadata=tuple(metadata.items()), timeout=20.0, wait_for_ready=True)
    return str(answer.code().name)


def infer(*, is_good: bool) -> Any:
    """Return a message with two rows, or one without its tensors."""
    request = MESSAGES["ModelInferRequest"](model_name="flowers")
    if not is_good:
        return request
    metadata = {"length_mm": 40.5, "count": 3, "grade": 1}
    for name, value in metadata.items():
        tensor = request.inputs.add(name=name, datatype="FP64", shape=[2])
        tensor.contents.fp64_contents.extend([value, value])
    for name, text in {"island": b"Oslo", "seen": b"2020-01-01"}.items():
        tensor = request.inputs.add(name=name, datatype="BYTES", shape=[2])
        tensor.contents.bytes_contents.extend([text, text])
    for name, flag in {"adult": True, "owned": False}.items():
        tensor = request.inputs.add(name=name, datatype="BOOL", shape=[2])
        tensor.contents.bool_contents.extend([flag, flag])
    return request


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_traced_prediction_has_a_span_and_its_parts(server: Traced, transport: str) -> None:
    """Every span has the caller's trace id and state; the server's is the caller's child, the parts are the server's."""
    request_id = f"good-{transport.replace(' ', '-')}"
    assert send(server, transport, request_id, SAMPLED) in (200, "OK")
    blocks = 3 if transport == "table" else 1
    span, parts = server.receiver.request(request_id, 4 * blocks)

    assert (span.kind, span.trace_id, span.parent_id) == ("server", TRACE_ID, PARENT_ID)
    assert {(part.kind, part.trace_id, part.state) for part in parts} == {("internal", TRACE_ID, "vendor=1")}
    assert (span.state, span.is_error) == ("vendor=1", False)
    assert sorted(part.name for part in parts) == sorted(STAGES * blocks)
    assert all(span.start_ns <= part.start_ns <= part.end_ns <= span.end_ns for part in parts)
    order = sorted((part for part in parts if blocks == 1), key=lambda part: part.start_ns)
    assert [part.name for part in order] in ([], STAGES)
    assert (span.service, span.attributes["batchproof.model.name"]) == ("batchproof", "flowers")
    assert span.attributes["batchproof.model.version"] == 1
    assert span.attributes["batchproof.rows"] == (5000 if transport == "table" else 2)
    assert span.attributes["batchproof.request.bytes"] > 0
    assert span.attributes["batchproof.response.bytes"] > 0


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_refusal_is_a_span_without_an_error(server: Traced, transport: str) -> None:
    """What the caller did wrong leaves the status of the span unset, and its code is an attribute."""
    request_id = f"bad-{transport.replace(' ', '-')}"
    status = send(server, transport, request_id, SAMPLED, is_good=False)
    span, _ = server.receiver.request(request_id, 0)

    shown = span.attributes.get("http.response.status_code") or span.attributes["rpc.response.status_code"]
    assert shown == status
    assert not span.is_error
    assert span.attributes["batchproof.error.code"] in ("invalid_rows", "invalid_table", "invalid_request")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_what_the_caller_does_not_trace_is_not_traced(server: Traced, transport: str) -> None:
    """Without a header, with one that says so, and with one that is not valid, nothing is exported."""
    for place, header in enumerate([UNSAMPLED, "00-zero-01", SAMPLED.replace(TRACE_ID, "0" * 32)]):
        send(server, transport, f"none-{place}-{transport.replace(' ', '-')}", header)
    send(server, transport, f"then-{transport.replace(' ', '-')}", SAMPLED)
    server.receiver.request(f"then-{transport.replace(' ', '-')}")

    ids = {span.attributes.get("batchproof.request.id", "") for span in server.receiver.spans}
    assert [one for one in ids if one.startswith("none-")] == []


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_attributes_follow_the_conventions(server: Traced, transport: str) -> None:
    """HTTP's stable conventions name a request and its answer, gRPC's a call; the name of a span has few values."""
    request_id = f"named-{transport.replace(' ', '-')}"
    send(server, transport, request_id, SAMPLED)
    span, _ = server.receiver.request(request_id)
    found = {name: value for name, value in span.attributes.items() if not name.startswith("batchproof.")}

    if transport == "gRPC":
        assert span.name == f"{SERVICE}/ModelInfer"
        assert found.pop("user_agent.original").startswith("grpc-python")
        assert found == {
            "rpc.system.name": "grpc",
            "rpc.method": f"{SERVICE}/ModelInfer",
            "rpc.response.status_code": "OK",
            "network.protocol.version": "2",
            "client.address": "127.0.0.1",
        }
    else:
        assert span.name == "POST /predict"
        assert found == {
            "http.request.method": "POST",
            "http.route": "/predict",
            "http.response.status_code": 200,
            "url.path": "/predict",
            "url.scheme": "http",
            "server.address": "127.0.0.1",
            "server.port": server.port,
            "network.protocol.version": "1.1",
            "client.address": "127.0.0.1",
        }


@pytest.mark.parametrize(
    "method, path, route, status",
    [
        ("GET", "/models", "/models", 200),
        ("GET", "/health/ready", "/health/ready", 200),
        ("POST", "/models/flowers/versions/1/predict", "/models/{model}/versions/{version}/predict", 200),
        ("GET", "/v2/models/flowers", "/v2/models/{model}", 200),
        ("GET", "/predict", "/predict", 405),
        ("POST", "/models/nobody/predict", None, 404),
        ("BREW", "/pot", None, 404),
    ],
)
def test_pages_and_wrong_routes_have_a_span(
    server: Traced, method: str, path: str, route: str | None, status: int
) -> None:
    """Whatever answers, there is one span; its route is a template, and absent where the path leads nowhere."""
    request_id = f"page-{method}{path}".replace("/", "-")
    answer = ask(
        server, method, path, GOOD if "flowers/v" in path else b"", traceparent=SAMPLED, x_request_id=request_id
    )
    if answer.status == 400:  # the parser knows no such method
        return
    span, _ = server.receiver.request(request_id, 0)

    assert (answer.status, span.attributes["http.response.status_code"]) == (status, status)
    assert span.attributes.get("http.route") == route
    assert span.name == (method if route is None else f"{method} {route}")


def test_a_shared_run_is_linked_from_and_to_its_requests(server: Traced) -> None:
    """Requests that ran together have one span for it, in a trace of its own, with a link to each and from each."""
    number = 24
    traces = [f"{place + 1:032x}" for place in range(number)]

    def one(place: int) -> Answer:
        header = SAMPLED.replace(TRACE_ID, traces[place])
        return ask(server, "POST", "/predict", GOOD, traceparent=header, x_request_id=f"shared-{place}")

    with ThreadPoolExecutor(number) as callers:
        assert {answer.status for answer in callers.map(one, range(number))} == {200}
    found = [server.receiver.request(f"shared-{place}") for place in range(number)]
    runs = {part.trace_id: part for _, parts in found for part in parts if part.name == "run"}
    linked = {link for run in runs.values() for link in run.links}
    wanted = lambda: {(span.trace_id, span.span_id) for span in server.receiver.spans} >= linked  # noqa: E731
    server.receiver.wait(wanted, "the shared runs")
    batches = {key: span for span in server.receiver.spans if (key := (span.trace_id, span.span_id)) in linked}

    assert batches, "some of them ran together"
    assert {span.trace_id for span in batches.values()}.isdisjoint(traces)
    for key, batch in batches.items():
        members = {run.trace_id for run in runs.values() if key in run.links}
        assert {trace_id for trace_id, _ in batch.links} == members
        assert len(batch.links) == len(members) == batch.attributes["batchproof.run.requests"] > 1
        assert batch.attributes["batchproof.run.rows"] == 2 * len(members)
        servers = {(span.trace_id, span.span_id) for span, _ in found}
        assert set(batch.links) <= servers
        assert (batch.parent_id, batch.attributes["batchproof.model.name"]) == ("", "flowers")
    alone = [run for run in runs.values() if not run.links]
    assert {run.attributes["batchproof.run.requests"] for run in alone} <= {1}


def test_lines_of_the_log_name_the_trace(server: Traced) -> None:
    """The access log has the trace and the span of a traced request, and the trace of one that only its caller has."""
    ask(server, "POST", "/predict", GOOD, traceparent=SAMPLED, x_request_id="in-the-log")
    ask(server, "POST", "/predict", GOOD, traceparent=UNSAMPLED, x_request_id="not-sampled")
    ask(server, "POST", "/predict", GOOD, x_request_id="no-header")
    span, _ = server.receiver.request("in-the-log")
    lines = {line["request_id"]: line for line in log_until(server, "no-header")}

    assert (lines["in-the-log"]["trace_id"], lines["in-the-log"]["span_id"]) == (TRACE_ID, span.span_id)
    assert (lines["not-sampled"]["trace_id"], lines["not-sampled"].get("span_id")) == (TRACE_ID, None)
    assert "trace_id" not in lines["no-header"]


def log_until(server: Traced, request_id: str) -> list[dict[str, Any]]:
    """Return the lines of requests up to that of this one."""
    assert server.process.stderr is not None
    found: list[dict[str, Any]] = []
    for text in server.process.stderr:
        line = json.loads(text)
        found += [line] if "request_id" in line else []
        if line.get("request_id") == request_id:
            return found
    raise AssertionError("the log ended")


@pytest.mark.parametrize("transport", ["fast path", "gRPC"])
def test_open_metrics_have_exemplars(server: Traced, transport: str) -> None:
    """OpenMetrics text names a traced request in a bucket that holds its time, and is well formed; plain text has none."""
    trace_id = f"{ord(transport[0]):032x}"
    send(server, transport, f"exemplar-{transport[0]}", SAMPLED.replace(TRACE_ID, trace_id))
    span, _ = server.receiver.request(f"exemplar-{transport[0]}")
    wanted = {"trace_id": trace_id, "span_id": span.span_id}

    def samples() -> list[Any]:
        answer = ask(server, "GET", "/metrics", accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
        assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        families = text_string_to_metric_families(answer.body.decode())
        buckets = [sample for family in families for sample in family.samples if sample.name.endswith("seconds_bucket")]
        return [sample for sample in buckets if sample.exemplar and sample.exemplar.labels == wanted]

    (sample,) = server.receiver.wait(samples, "the exemplar")  # of another worker, when it wrote its counts
    assert sample.exemplar.value <= float(sample.labels["le"])
    assert sample.labels["route"] == ("grpc" if transport == "gRPC" else "native")
    plain = ask(server, "GET", "/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert trace_id not in plain.body.decode()


def test_clients_join_the_trace_of_their_caller(server: Traced) -> None:
    """In an open span both clients send it as the parent; a header that the caller names itself stays."""
    tracer = TracerProvider().get_tracer("tests")
    with tracer.start_as_current_span("caller") as span:
        context = span.get_span_context()
        with Client(server.url, headers={"x-request-id": "from-the-client"}) as client:
            client.predict([ROW])
        own = {"x-request-id": "own-header", "Traceparent": SAMPLED}
        with Client(server.url, headers=own) as client:
            client.predict([ROW])

        async def ask_too() -> None:
            async with AsyncClient(server.url, headers={"x-request-id": "from-the-async-client"}) as client:
                await client.predict([ROW])

        asyncio.run(ask_too())
    for request_id in ("from-the-client", "from-the-async-client"):
        found, _ = server.receiver.request(request_id, name="POST")
        assert (found.trace_id, found.parent_id) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")
    assert server.receiver.request("own-header", name="POST")[0].trace_id == TRACE_ID
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_a_caller_that_leaves_has_its_span(models: Path) -> None:
    """A caller that goes away before its answer is an error of its own kind, without a status."""
    with (
        receiving() as receiver,
        live(models, "--batch-wait-s", "1", environment=receiver.environment()) as server,
        socket.create_connection((server.host, server.port)) as connection,
    ):
        body = json.dumps(GOOD).encode()
        head = f"POST /predict HTTP/1.1\r\nHost: h\r\nX-Request-Id: left\r\nTraceparent: {SAMPLED}\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        time.sleep(0.1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed by a reset
        connection.close()
        span, parts = receiver.request("left", 2)

    assert (span.is_error, span.attributes["error.type"]) == (True, "cancelled")
    assert "http.response.status_code" not in span.attributes
    assert [part.name for part in parts] == ["decode", "queue"]


def test_what_has_no_room_is_dropped_and_counted(models: Path) -> None:
    """While a receiver holds an export, spans beyond the queue are dropped and counted, and no request waits for it."""
    with receiving() as receiver:
        receiver.gate.clear()
        variables = receiver.environment(OTEL_BSP_MAX_QUEUE_SIZE="10", OTEL_BSP_SCHEDULE_DELAY="60000")
        with live(models, environment=variables) as server:
            for expected in ({"dropped": 0}, {"dropped": 0}, {"dropped": 10}):
                for _ in range(2):
                    assert ask(server, "POST", "/predict", GOOD, traceparent=SAMPLED).status == 200
                receiver.wait(lambda: receiver.heads, "the first export")
                assert span_counts(server) == {"exported": 0, "failed": 0, **expected}
            receiver.gate.set()
            receiver.wait(lambda: span_counts(server) == {"exported": 20, "failed": 0, "dropped": 10}, "the rest")


def span_counts(server: Live) -> dict[str, int]:
    """Return what became of the spans."""
    text = ask(server, "GET", "/metrics").body.decode()
    return {name: int(float(count)) for name, count in re.findall(r'spans_total{outcome="(\w+)"} (\S+)', text)}


def test_a_failing_receiver_is_logged_once(models: Path) -> None:
    """While exports fail there is one line with the reason, all of the log stays JSON, and one line says when they work."""
    with receiving() as receiver:
        receiver.status = 400
        with live(models, environment=receiver.environment()) as server:
            for place in range(3):
                ask(server, "POST", "/predict", GOOD, traceparent=SAMPLED)
                receiver.wait(lambda place=place: span_counts(server)["failed"] >= 5 * (place + 1), "the failure")
            receiver.status = 200
            ask(server, "POST", "/predict", GOOD, traceparent=SAMPLED)
            receiver.wait(lambda: span_counts(server)["exported"] == 5, "the export")
            assert server.process.stderr is not None
            lines = [json.loads(server.process.stderr.readline()) for _ in range(2)]

    assert [line["event"] for line in lines] == ["spans_not_exported", "spans_exported"]
    assert "400" in lines[0]["reason"]


def test_the_standard_variables_are_followed(models: Path) -> None:
    """Name, attributes, headers, compression and the address of the traces come from the variables of OpenTelemetry."""
    with receiving() as receiver:
        variables = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{receiver.url}/own/path",
            "OTEL_EXPORTER_OTLP_HEADERS": "x-experiment=7",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_SERVICE_NAME": "flowers-at-home",
            "OTEL_TRACES_SAMPLER": "always_on",
            "OTEL_BSP_SCHEDULE_DELAY": "20",
        }
        with live(models, environment=variables) as server:
            ask(server, "POST", "/predict", GOOD, x_request_id="root")
            ask(server, "POST", "/predict", GOOD, x_request_id="child", traceparent=UNSAMPLED)
            root, _ = receiver.request("root")
            child, _ = receiver.request("child")

    assert (root.service, root.parent_id) == ("flowers-at-home", "")
    assert (child.trace_id, child.parent_id) == (TRACE_ID, PARENT_ID)
    head = receiver.heads[0]
    assert (head["path"], head["x-experiment"], head["Content-Encoding"]) == ("/own/path", "7", "gzip")


@pytest.mark.parametrize("text", ["abc", "-1", "9" * 30])
def test_limits_that_are_not_valid_prevent_no_start(models: Path, text: str) -> None:
    """With each limit on spans set wrongly the service starts, says so of each, and traces with the defaults."""
    with receiving() as receiver:
        limits = dict.fromkeys(LIMITS, text)
        with live(models, environment={**receiver.environment(), **limits}) as server:
            ask(server, "POST", "/predict", GOOD, traceparent=SAMPLED, x_request_id="traced")
            receiver.request("traced")


@pytest.mark.parametrize(
    "variables",
    [{}, {"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}],
    ids=["none", "disabled", "no exporter"],
)
def test_without_a_receiver_nothing_is_loaded(models: Path, variables: dict[str, str]) -> None:
    """Where nothing is traced, endpoints and queues are of the plain kind, and no module of OpenTelemetry's SDK is there."""
    address = {} if not variables else {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    code = (
        "import sys; from pathlib import Path; from batchproof.service.configuration.settings import Settings\n"
        "from batchproof.service.server.serving import app; from batchproof.service.server.http.asgi import AsgiApp\n"
        "served = AsgiApp(app.load(Settings(models=Path(sys.argv[1]))))\n"
        "endpoint = served.app.routes.endpoints['/predict']\n"
        "print(type(endpoint._batcher).__name__, endpoint.observed, type(served.router).__name__,"
        " [name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(models)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
        env={**clean_environment(), **address, **variables},
    )

    assert done.stdout.split("\n")[-2] == "Batcher None Router []"


def clean_environment() -> dict[str, str]:
    """Return the variables of this process without those of OpenTelemetry."""
    return {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
