"""A rule at the gate refuses every request, on every transport and route, before its body is read."""

import asyncio
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from batchproof.service.configuration.settings import Settings
from batchproof.service.errors import ServiceError
from batchproof.service.protocols.head import RequestHead
from batchproof.service.runtime.metrics import ModelKey
from batchproof.service.server.grpc.messages import SERVICE, classes
from batchproof.service.server.http.asgi import AsgiApp
from batchproof.service.server.serving import app
from batchproof.service.server.serving.gate import Gate, Page, RpcMethod, Target
from tests.bundles import make_bundle
from tests.inside import serving
from tests.live import free_port

ROW = {"length_mm": 40.5, "island": "Oslo", "count": 3, "seen": "2020-01-01", "adult": True, "grade": 1, "owned": None}
GOOD = json.dumps({"rows": [ROW]}).encode()
NO_KEY = ServiceError(401, "no_key", "This request has no key.")


@dataclass
class Guard:
    """A rule that refuses every request without the header X-Key, and remembers what it was asked."""

    seen: list[tuple[RequestHead, Target]] = field(default_factory=list)

    def rule(self, head: RequestHead, target: Target) -> ServiceError | None:
        """Refuse what has no key."""
        self.seen.append((head, target))
        return None if head.header(b"x-key") else NO_KEY


@dataclass(frozen=True)
class Guarded:
    """A server in a thread of this process, behind a guard."""

    app: app.App
    guard: Guard
    port: int
    rpc_port: int


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Serve one model over HTTP and gRPC behind a guard."""
    models = tmp_path_factory.mktemp("models")
    make_bundle(models)
    settings = Settings(models=models, grpc_port=free_port(), max_body_bytes=200_000, default_model="flowers")
    guard = Guard()
    with serving(settings, Gate((guard.rule,))) as inside:
        yield Guarded(inside.app, guard, inside.port, settings.grpc_port)


def request(method: str, path: str, body: bytes = b"", *headers: str, version: str = "1.1") -> bytes:
    """Return the bytes of one request."""
    length = (
        [] if any(header.startswith("Transfer-Encoding") for header in headers) else [f"Content-Length: {len(body)}"]
    )
    lines = [f"{method} {path} HTTP/{version}", "Host: localhost", *length, *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def talk(server: Guarded, raw: bytes, answers: int = 1, method: str = "") -> list[tuple[int, dict[str, str], bytes]]:
    """Send raw bytes on one connection and read so many answers."""
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=20)) as connection:
        connection.sendall(raw)
        file = connection.makefile("rb")
        return [read_answer(file, has_body=method != "HEAD") for _ in range(answers)]


def read_answer(file: Any, *, has_body: bool = True) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of the next answer."""
    status = int(file.readline().split()[1])
    headers = {}
    while (line := file.readline()) != b"\r\n":
        name, _, value = line.decode().partition(":")
        headers[name.strip().lower()] = value.strip()
    length = int(headers.get("content-length", 0)) if has_body else 0
    return status, headers, file.read(length)


CHUNKED = b"5\r\n" + b'{"row' + b"\r\n"  # the body goes on, and never does
CSV = "Content-Type: text/csv"
NATIVE, OIP, MLFLOW, AZURE, V1 = "no_key", "error", "message", "message", "error"  # a key of the refusal's body
ROUTES: dict[str, tuple[str, str, bytes, tuple[str, ...], str]] = {
    "prediction": ("POST", "/predict", GOOD, (), NATIVE),
    "prediction by name": ("POST", "/models/flowers/predict", GOOD, (), NATIVE),
    "prediction by version": ("POST", "/models/flowers/versions/1/predict", GOOD, (), NATIVE),
    "prediction with a query": ("POST", "/predict?on_error=row", GOOD, (), NATIVE),
    "percent-encoded": ("POST", "/pre%64ict", GOOD, (), NATIVE),
    "absolute address": ("POST", "http://localhost/predict", GOOD, (), NATIVE),
    "absolute address without a path": ("GET", "http://localhost", b"", (), NATIVE),
    "asks for HTTP/2": ("POST", "/predict", GOOD, ("Connection: Upgrade", "Upgrade: h2c"), NATIVE),
    "asks for a WebSocket": ("GET", "/models", b"", ("Connection: Upgrade", "Upgrade: websocket"), NATIVE),
    "prediction of a page": ("POST", "/predict", GOOD, ("Origin: http://localhost",), NATIVE),
    "packed": ("POST", "/predict", GOOD, ("Content-Encoding: gzip",), NATIVE),
    "long": ("POST", "/predict", GOOD + b" " * 100_000, (), NATIVE),
    "too long": ("POST", "/predict", b" " * 300_000, (), NATIVE),
    "chunked": ("POST", "/predict", CHUNKED, ("Transfer-Encoding: chunked",), NATIVE),
    "asks to continue": ("POST", "/predict", b"", ("Expect: 100-continue",), NATIVE),
    "table": ("POST", "/predict", b"a,b\n1,2\n", (CSV,), NATIVE),
    "table wanted": ("POST", "/predict", GOOD, ("Accept: text/csv",), NATIVE),
    "table, chunked": ("POST", "/predict?extra=ignore", CHUNKED, (CSV, "Transfer-Encoding: chunked"), NATIVE),
    "Open Inference Protocol": ("POST", "/v2/models/flowers/infer", b"{}", (), OIP),
    "Open Inference Protocol's metadata": ("GET", "/v2/models/flowers", b"", (), OIP),
    "Open Inference Protocol's health": ("GET", "/v2/health/live", b"", (), OIP),
    "SageMaker": ("POST", "/invocations", b"{}", (), MLFLOW),
    "SageMaker's probe": ("GET", "/ping", b"", (), MLFLOW),
    "Azure": ("POST", "/score", b"{}", (), AZURE),
    "KServe version 1": ("POST", "/v1/models/flowers:predict", b"{}", (), V1),
    "KServe version 1's list": ("GET", "/v1/models", b"", (), V1),
    "live": ("GET", "/health/live", b"", (), NATIVE),
    "ready": ("GET", "/health/ready", b"", (), NATIVE),
    "metrics": ("GET", "/metrics", b"", (), NATIVE),
    "start page": ("GET", "/", b"", (), NATIVE),
    "API page": ("GET", "/docs", b"", (), NATIVE),
    "OpenAPI": ("GET", "/openapi.json", b"", (), NATIVE),
    "models": ("GET", "/models", b"", (), NATIVE),
    "report": ("GET", "/models/flowers/report", b"", (), NATIVE),
    "wrong method": ("DELETE", "/predict", b"", (), NATIVE),
    "unknown method": ("PROPFIND", "/models", b"", (), NATIVE),
    "options": ("OPTIONS", "/predict", b"", (), NATIVE),
    "unknown path": ("GET", "/nothing/here", b"", (), NATIVE),
    "unknown model": ("POST", "/models/nobody/predict", GOOD, (), NATIVE),
    "unknown model of a protocol": ("POST", "/v2/models/nobody/infer", b"{}", (), OIP),
}


def shows(body: bytes, key: str) -> bool:
    """Return whether a refusal has the shape of its protocol."""
    content = json.loads(body)
    return content["error"]["code"] == "no_key" if key == NATIVE else NO_KEY.message in str(content[key])


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("route", ROUTES)
def test_a_rule_refuses_every_route(server: Guarded, route: str, version: str) -> None:
    """Each route is refused in the shape of its protocol, once, and nothing is served."""
    method, path, body, headers, key = ROUTES[route]
    server.guard.seen.clear()
    ((status, _, refused),) = talk(server, request(method, path, body, *headers, version=version))
    assert status == 401
    assert shows(refused, key)
    assert len(server.guard.seen) == 1, "the gate is asked once for a request"


@pytest.mark.parametrize("route", ROUTES)
def test_a_rule_refuses_every_route_of_another_server(server: Guarded, route: str) -> None:
    """The ASGI application under another server resolves the request itself and refuses the same."""
    method, path, body, headers, key = ROUTES[route]

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(AsgiApp(server.app, Gate((server.guard.rule,))))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            named = dict(header.split(": ", 1) for header in headers)
            return await client.request(method, path, content=body, headers=named)

    server.guard.seen.clear()
    answer = asyncio.run(ask())
    assert answer.status_code == 401
    assert shows(answer.content, key)
    assert len(server.guard.seen) == 1


@pytest.mark.parametrize("path", ["/predict", "/health/live", "/models", "/v2", "/nothing"])
def test_a_rule_refuses_head_without_a_body(server: Guarded, path: str) -> None:
    """The refusal of HEAD has the length of its body and no body, and the connection goes on."""
    raw = request("HEAD", path) + request("HEAD", path)
    answers = talk(server, raw, 2, method="HEAD")
    assert [status for status, _, _ in answers] == [401, 401]
    assert int(answers[0][1]["content-length"]) > 0


def test_a_rule_refuses_each_pipelined_request(server: Guarded) -> None:
    """Requests behind one another are refused or answered each by its own head, in order."""
    paths = ["/predict", "/health/live", "/predict?", "/predict", "/models"]
    keys = [["X-Key: a"], [], ["X-Key: a"], [], []]
    raw = b"".join(
        request("POST" if "predict" in path else "GET", path, GOOD if "predict" in path else b"", *key)
        for path, key in zip(paths, keys, strict=True)
    )
    answers = talk(server, raw, len(paths))
    assert [status for status, _, _ in answers] == [200, 401, 200, 401, 401]


def test_a_short_body_is_dropped_and_the_connection_goes_on(server: Guarded) -> None:
    """After a refusal the next request of the connection is answered, whatever the body before it held."""
    hidden = request("GET", "/health/live", b"", "X-Key: a")
    raw = request("POST", "/predict", hidden) + request("POST", "/predict", GOOD, "X-Key: a")
    refused, answered = talk(server, raw, 2)
    assert (refused[0], answered[0]) == (401, 200)
    assert "connection" not in refused[1]


@pytest.mark.parametrize("headers", [(), (CSV,)])
@pytest.mark.parametrize("size", ["Content-Length: 150000", "Transfer-Encoding: chunked"])
def test_a_long_body_is_refused_before_it_comes(server: Guarded, size: str, headers: tuple[str, ...]) -> None:
    """The answer is there before the first byte of the body, and says that the connection ends."""
    head = "\r\n".join(["POST /predict HTTP/1.1", "Host: localhost", size, *headers]).encode() + b"\r\n\r\n"
    ((status, named, _),) = talk(server, head)
    assert (status, named["connection"]) == (401, "close")


def test_a_refused_caller_is_not_asked_for_its_body(server: Guarded) -> None:
    """With Expect: 100-continue the refusal comes in place of 100, and the connection ends."""
    head = request("POST", "/predict", b"", "Expect: 100-continue").replace(b"Length: 0", b"Length: 40")
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=20)) as connection:
        connection.sendall(head)
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close\r\n" in answer
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("target", ["localhost:80", "/predict", "/health/live"])
def test_what_would_leave_http_has_one_answer(server: Guarded, target: str) -> None:
    """A tunnel is refused as a whole, before and behind an answered request."""
    raw = request("CONNECT", target)
    for before in (b"", request("GET", "/health/live", b"", "X-Key: a")):
        with closing(socket.create_connection(("127.0.0.1", server.port), timeout=20)) as connection:
            connection.sendall(before + raw)
            answer = connection.makefile("rb").read()
        assert re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)[-1] == b"400"


def test_what_passes_is_served(server: Guarded) -> None:
    """A rule that lets a request pass changes nothing of its answer."""
    statuses = {
        route: talk(server, request(method, path, body, "X-Key: a", *headers))[0][0]
        for route, (method, path, body, headers, _) in ROUTES.items()
        if b'{"row\r\n' not in body and "continue" not in route
    }
    assert set(statuses.values()) <= {200, 204, 400, 404, 405, 413, 422}
    assert [statuses[route] for route in ("prediction", "packed", "too long", "live", "models")] == [
        200,
        400,
        413,
        200,
        200,
    ]


def call(server: Guarded, method: str, metadata: tuple[tuple[str, str], ...] = (), **fields: Any) -> Any:
    """Return one gRPC call, ended."""
    messages = classes()
    with grpc.insecure_channel(f"127.0.0.1:{server.rpc_port}") as channel:
        name = method if f"{method}Request" in messages else "ServerLive"
        ask = channel.unary_unary(
            f"/{SERVICE}/{method}",
            messages[f"{name}Request"].SerializeToString,
            messages[f"{name}Response"].FromString,
        )
        ended = ask.future(messages[f"{name}Request"](**fields), metadata=metadata, timeout=20.0, wait_for_ready=True)
        ended.code()
        return ended


RPC = {
    "ServerLive": {},
    "ServerReady": {},
    "ModelReady": {"name": "flowers"},
    "ServerMetadata": {},
    "ModelMetadata": {"name": "flowers"},
    "ModelInfer": {"model_name": "flowers"},
    "ModelStreamInfer": {},
    "Nothing": {},
}


@pytest.mark.parametrize("method", RPC)
def test_a_rule_refuses_every_call(server: Guarded, method: str) -> None:
    """Every method of gRPC, unknown ones too, is refused with the status, the sentence and an id."""
    server.guard.seen.clear()
    ended = call(server, method, **RPC[method])
    assert (ended.code(), ended.details()) == (grpc.StatusCode.UNAUTHENTICATED, NO_KEY.message)
    assert dict(ended.trailing_metadata())["x-request-id"]
    ((head, target),) = server.guard.seen
    assert (head.path, target) == (f"/{SERVICE}/{method}", RpcMethod(method))


def test_a_call_that_passes_is_served(server: Guarded) -> None:
    """With its key in the metadata a call is answered; a method that there is not is unimplemented."""
    key = (("x-key", "a"),)
    assert call(server, "ServerLive", key).result().live
    assert call(server, "Nothing", key).code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_stream_is_refused_before_its_messages(server: Guarded) -> None:
    """A call whose messages never come is refused by its head."""
    is_over = threading.Event()

    def messages() -> Iterator[bytes]:
        is_over.wait(20)
        yield b""

    with grpc.insecure_channel(f"127.0.0.1:{server.rpc_port}") as channel:
        answers = channel.stream_stream(f"/{SERVICE}/ModelInfer")(messages(), timeout=20.0, wait_for_ready=True)
        with pytest.raises(grpc.RpcError) as refused:
            next(answers)
        is_over.set()
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_rule_learns_the_model(tmp_path: Path) -> None:
    """What answers a prediction or a table, as a rule sees it, names the model."""
    make_bundle(tmp_path)
    service = app.load(Settings(models=tmp_path))
    asked: list[Any] = []
    router = AsgiApp(service, Gate((lambda _, target: asked.append(getattr(target, "key", None)),))).router
    for headers in ([], [(b"content-type", b"text/csv")]):
        router.resolve(RequestHead("POST", "/models/flowers/predict", b"", headers))
    assert isinstance(router.resolve(RequestHead("GET", "/models", b"", [])), Page)
    assert asked == [ModelKey("flowers", 1), ModelKey("flowers", 1), None]
    service.close()
