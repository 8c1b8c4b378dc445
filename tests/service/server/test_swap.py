"""The table of routes is replaced while connections are open and requests are under way."""

import json
import socket
import time
import weakref
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from batchproof.service.bundle import reader
from batchproof.service.configuration.settings import Settings
from batchproof.service.inference import model
from batchproof.service.inference.engine import EngineOptions
from batchproof.service.runtime.metrics import ModelKey
from tests.bundles import make_bundle
from tests.inside import Inside, serving

ROW = [40.5, "Oslo", 3, "2020-01-01", True, 1, None]
GOOD = json.dumps({"rows": [ROW]}).encode()
TABLE = b"length_mm,island,count,seen,adult,grade,owned\n40.5,Oslo,3,2020-01-01,true,1,\n"
OLD, NEW = ModelKey("flowers", 1), ModelKey("flowers", 2)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Inside]:
    """Serve version 1 of one model, with version 2 beside the folder."""
    make_bundle(tmp_path / "models", version=1, seed=1)
    make_bundle(tmp_path / "next", version=2, seed=2)
    with serving(Settings(models=tmp_path / "models")) as inside:
        yield inside


def swap(server: Inside, folder: Path) -> list[Any]:
    """Serve version 2 in place of version 1; returns what `App.replace` does."""
    bundle = reader.read(folder / "next" / "flowers" / "2")
    loaded = model.load(bundle, EngineOptions(device="cpu"), 64)
    deployment = server.app.deploy(loaded)
    return list(server.on_loop(lambda: server.app.replace({NEW: deployment})))


class Connection:
    """One kept-alive connection."""

    def __init__(self, server: Inside) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        self._file = self.socket.makefile("rb")

    def send(self, method: str, path: str, body: bytes = b"", *headers: str, cut: int = 0) -> bytes:
        """Send a request but for the last `cut` bytes of its body, which are returned."""
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
        raw = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
        self.socket.sendall(raw[: len(raw) - cut])
        return raw[len(raw) - cut :]

    def read(self) -> tuple[dict[str, str], bytes]:
        """Return headers and body of the next answer, which must be 200."""
        assert self._file.readline().split()[1] == b"200"
        headers = {}
        while (line := self._file.readline()) != b"\r\n":
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        if "content-length" in headers:
            return headers, self._file.read(int(headers["content-length"]))
        body = b""
        while size := int(self._file.readline(), 16):
            body += self._file.read(size)
            self._file.readline()
        self._file.readline()
        return headers, body

    def ask(self, method: str, path: str, body: bytes = b"", *headers: str) -> Any:
        """Return the JSON of one request."""
        self.send(method, path, body, *headers)
        return json.loads(self.read()[1])

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self.socket.close()


def test_open_connections_see_the_new_table(server: Inside, tmp_path: Path) -> None:
    """A connection that was opened before asks the new table, for predictions, protocols, pages and the document."""
    with closing(Connection(server)) as connection:

        def versions() -> list[Any]:
            named = connection.ask("POST", "/predict", GOOD)["model"]["version"]
            long = connection.ask("POST", "/predict", GOOD, "Content-Encoding: identity")["model"]["version"]
            protocol = connection.ask("GET", "/v2/models/flowers")["versions"]
            page = connection.ask("GET", "/models")["models"][0]["version"]
            paths = [path for path in connection.ask("GET", "/openapi.json")["paths"] if "/versions/" in path]
            documented = sorted({path.split("/versions/")[1][0] for path in paths} - {"{"})
            ready = connection.ask("GET", "/health/ready")["models"][0]["version"]
            return [named, long, protocol, page, documented, ready]

        assert versions() == [1, 1, ["1"], 1, ["1"], 1]
        swap(server, tmp_path)
        assert versions() == [2, 2, ["2"], 2, ["2"], 2]
        connection.send("POST", "/predict", TABLE, "Content-Type: text/csv")
        assert json.loads(connection.read()[0]["x-model"])["version"] == 2
        connection.send("POST", "/models/flowers/versions/1/predict", GOOD)
        assert connection.socket.recv(64).startswith(b"HTTP/1.1 404 ")


WAYS = {"short": (), "long": ("Content-Encoding: identity",), "table": ("Content-Type: text/csv",)}


@pytest.mark.parametrize("way", WAYS)
def test_a_request_stays_on_the_model_that_its_head_met(server: Inside, tmp_path: Path, way: str) -> None:
    """What began before the swap is answered by the old version; then that one is freed, though connections are kept."""
    body = TABLE if way == "table" else GOOD
    engine = weakref.ref(server.app.deployments[OLD].model.engine)
    with closing(Connection(server)) as connection, closing(Connection(server)) as idle:
        for path in ("/predict", "/models"):
            idle.ask("POST" if path == "/predict" else "GET", path, GOOD if path == "/predict" else b"")
            connection.ask("POST", "/predict", GOOD, *WAYS["long"])
        rest = connection.send("POST", "/predict", body, *WAYS[way], cut=10)
        time.sleep(0.1)  # the head is read
        (drained,) = swap(server, tmp_path)
        assert idle.ask("POST", "/predict", GOOD)["model"]["version"] == 2
        assert not drained.done()

        connection.socket.sendall(rest)
        headers, answer = connection.read()
        described = json.loads(headers["x-model"]) if way == "table" else json.loads(answer)["model"]
        assert described["version"] == 1
        assert connection.ask("POST", "/predict", GOOD)["model"]["version"] == 2
        until = time.monotonic() + 10
        while not drained.done() and time.monotonic() < until:
            time.sleep(0.01)
        assert drained.done()
        assert engine() is None


def test_counters_never_fall(server: Inside, tmp_path: Path) -> None:
    """What a version answered stays counted after it left, and a version that comes back counts on."""
    first = server.app.deployments[OLD]
    with closing(Connection(server)) as connection:
        connection.ask("POST", "/predict", GOOD)
        swap(server, tmp_path)
        connection.ask("POST", "/predict", GOOD)
        server.on_loop(lambda: server.app.replace({OLD: server.app.deploy(first.model)}))
        connection.ask("POST", "/predict", GOOD)
        connection.send("GET", "/metrics")
        text = connection.read()[1].decode()
    for version, rows in ((1, "2.0"), (2, "1.0")):
        assert f'batchproof_rows_total{{model="flowers",route="native",version="{version}"}} {rows}' in text
        assert f'batchproof_run_rows_sum{{model="flowers",version="{version}"}} {rows}' in text


def test_a_stop_is_not_undone_by_a_swap(server: Inside, tmp_path: Path) -> None:
    """A process that is about to stop stays unready whatever it is given to serve."""
    server.on_loop(server.app.begin_stop)
    swap(server, tmp_path)
    assert not server.app.is_ready


def test_a_violation_goes_with_its_version(server: Inside, tmp_path: Path) -> None:
    """A withdrawn version leaves the process unready; once another is served in its place it is ready again."""
    server.on_loop(lambda: server.app.violated(*OLD))
    assert not server.app.is_ready
    swap(server, tmp_path)
    assert server.app.is_ready
    with closing(Connection(server)) as connection:
        assert connection.ask("POST", "/predict", GOOD)["model"]["version"] == 2
