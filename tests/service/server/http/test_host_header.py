"""Which requests HTTP itself forbids to answer for their Host header (RFC 9112, 3.2), on every way into the service."""

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batchproof.service.configuration.settings import Settings
from batchproof.service.server.http.asgi import AsgiApp
from batchproof.service.server.serving import app
from tests.bundles import NUMBERS, make_bundle
from tests.live import Live, live

ROWS = json.dumps({"rows": [[0.1, 0.2, 0.3, 0.4, 0.5]]}).encode()
TABLE = b"x1,x2,x3,x4,x5\n0.1,0.2,0.3,0.4,0.5\n"
HOST = b"Host: localhost\r\n"
FAULTS = {
    "no host": b"",
    "two hosts": HOST + HOST,
    "two hosts apart": HOST + b"X-A: 1\r\nhost: example.org\r\n",
    "blank inside": b"Host: local host\r\n",
    "markup": b"Host: <script>\r\n",
    "path": b"Host: localhost/x\r\n",
    "list": b"Host: localhost, localhost\r\n".replace(b",", b" ,"),
    "not ASCII": b"Host: \xff\xfe\r\n",
    "half an address": b"Host: [::1\r\n",
    "port that is no number": b"Host: localhost:abc\r\n",
}
WAYS = {
    "short": (b"POST /predict", b"", ROWS),
    "long": (b"POST /predict", b"Content-Encoding: identity\r\n", ROWS),
    "upgrade": (b"POST /predict", b"Connection: Upgrade\r\nUpgrade: h2c\r\n", ROWS),
    "table": (b"POST /predict", b"Content-Type: text/csv\r\n", TABLE),
    "chunked": (b"POST /predict", b"Transfer-Encoding: chunked\r\n", b"%x\r\n%b\r\n0\r\n\r\n" % (len(ROWS), ROWS)),
    "whole URL": (b"POST http://localhost/predict", b"", ROWS),
    "open inference": (b"GET /v2", b"", b""),
    "page": (b"GET /models", b"", b""),
    "web page": (b"GET /", b"", b""),
    "health": (b"GET /health/live", b"", b""),
    "metrics": (b"GET /metrics", b"", b""),
    "options": (b"OPTIONS *", b"", b""),
    "nothing": (b"GET /nothing", b"", b""),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Serve one model to every host that is well formed."""
    models = tmp_path_factory.mktemp("models")
    make_bundle(models, "numbers", inputs=NUMBERS)
    with live(models, "--allowed-hosts", "*") as found:
        yield found


def raw(way: str, host: bytes, version: bytes = b"1.1") -> bytes:
    """Return a request with `host` in the place of its Host header."""
    line, headers, body = WAYS[way]
    length = b"" if b"chunked" in headers else b"Content-Length: %d\r\n" % len(body)
    return b"%b HTTP/%b\r\n%b%b%b\r\n%b" % (line, version, host, headers, length, body)


def talk(server: Live, data: bytes) -> bytes:
    """Return everything that comes until the connection is closed."""
    with socket.create_connection((server.host, server.port), timeout=20) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_request_with_no_host_or_several_or_a_malformed_one_is_refused(server: Live, way: str, fault: str) -> None:
    """400 `broken_http` in one answer, whatever is asked for, and the connection ends: nothing behind it is read."""
    answer = talk(server, raw(way, FAULTS[fault]) + raw("health", HOST))

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 "), answer
    assert b"connection: close" in head
    assert b"HTTP/1.1 " not in body.replace(b"HTTP/1.1 requires", b""), "the second request is not answered"
    assert b"Host header" in body
    assert b"script" not in body


@pytest.mark.parametrize("way", WAYS)
def test_requests_before_it_are_answered(server: Live, way: str) -> None:
    """A good request that is pipelined before one with two hosts gets its answer first."""
    answer = talk(server, raw("short", HOST) + raw(way, HOST + HOST))

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 400 " in answer


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "127.0.0.1:1", "[::1]:8000", "a_b.c-d.example.", "", ":80"]
)
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_every_well_formed_host_is_answered(server: Live, host: str, version: bytes) -> None:
    """Names and addresses pass, with a port and without, and an empty Host, which RFC 9112 allows."""
    header = f"Host: {host}\r\nConnection: close\r\n".encode()
    for way in ("short", "page"):
        assert b" 200 OK\r\n" in talk(server, raw(way, header, version)), (way, host)


def test_http_1_0_may_leave_it_out_but_not_repeat_it(server: Live) -> None:
    """HTTP/1.0 knows no Host; two of them are refused there too."""
    for way in ("short", "page", "health", "whole URL"):
        assert b" 200 OK\r\n" in talk(server, raw(way, b"", b"1.0")), way
        assert b" 400 Bad Request\r\n" in talk(server, raw(way, HOST + HOST, b"1.0")), way


@pytest.mark.parametrize(
    ("headers", "status"),
    [([], 400), ([(b"host", b"localhost")], 200), ([(b"host", b"localhost")] * 2, 400), ([(b"host", b"a b")], 400)],
)
def test_other_servers_of_the_application_are_no_way_around(
    tmp_path: Path, headers: list[tuple[bytes, bytes]], status: int
) -> None:
    """The ASGI application refuses alike where another server than ours parsed the request."""
    make_bundle(tmp_path, "numbers", inputs=NUMBERS)
    asgi = AsgiApp(app.load(Settings(models=tmp_path)))
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": ROWS}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "http_version": "1.1"}
    asyncio.run(asgi({**scope, "headers": headers}, receive, send))  # type: ignore[arg-type]

    assert sent[0]["status"] == status
    assert status == 200 or b"Host header" in sent[1]["body"]
