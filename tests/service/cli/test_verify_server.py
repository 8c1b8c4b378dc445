"""`verify --url` runs the check against any server of the Open Inference Protocol: one request with many rows, and many at once."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.live import live

Answer = Callable[[np.ndarray], np.ndarray]
METADATA = {"name": "m", "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}], "outputs": []}


def sums(rows: np.ndarray) -> np.ndarray:
    """Return what does not depend on the batch."""
    return rows.sum(axis=1, dtype=np.float32)


class Server(ThreadingHTTPServer):
    """A server of one model, `m`, whose faults can be chosen."""

    request_queue_size = (
        128  # the kernel resets connections beyond it, and the five of the base are fewer than verify opens
    )

    def __init__(self, answer: Answer = sums, *, binary: bool = True, most_rows: int = 1 << 30) -> None:
        """Answer with `answer`; `binary`: whether tensors may be binary; more than `most_rows` are refused."""
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.binary, self.most_rows = answer, binary, most_rows
        self.metadata: Any = METADATA
        self.in_flight = 0
        self.closes_after = 0  # so many answers, without a word; 0: never
        self.lock = threading.Lock()
        self.bodies: list[str] = []


class Handler(BaseHTTPRequestHandler):
    """The three routes that are asked for."""

    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # head and body in one packet
    server: Server
    answers = 0  # on this connection

    def do_GET(self) -> None:
        """Describe the server or the model."""
        if self.path == "/v2":
            extensions = ["binary_tensor_data"] if self.server.binary else []
            self._send(200, {"name": "stub", "version": "7", "extensions": extensions})
        elif self.path == "/v2/models/m":
            self._send(200, self.server.metadata)
        else:
            self._send(404, {"error": "no such model"})

    def do_POST(self) -> None:
        """Answer a batch."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        length = int(self.headers.get("Inference-Header-Content-Length", len(body)))
        self.server.bodies.append("binary" if length < len(body) else "json")
        (tensor,) = json.loads(body[:length])["inputs"]
        values = np.frombuffer(body[length:], "<f4") if length < len(body) else np.array(tensor["data"], np.float32)
        rows = values.reshape(tensor["shape"])
        if len(rows) > self.server.most_rows:
            return self._send(400, {"error": f"at most {self.server.most_rows} rows"})
        with self.server.lock:
            self.server.in_flight += 1
        result = self.server.answer(rows)
        with self.server.lock:
            self.server.in_flight -= 1
        output = {"name": "y", "datatype": "FP32", "shape": [len(rows)], "data": result.tolist()}
        return self._send(200, {"outputs": [output]})

    def _send(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode() if not isinstance(content, bytes) else content
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.answers += 1
        self.close_connection = self.answers == self.server.closes_after

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(*arguments: Any, **options: Any) -> Server:
        servers.append(Server(*arguments, **options))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def verify(server: Server, *flags: str) -> subprocess.CompletedProcess[str]:
    return verify_url(f"http://127.0.0.1:{server.server_address[1]}/v2/models/m", *flags)


def verify_url(url: str, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "batchproof.service", "verify", "--url", url, "--timeout", "60", *flags]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("tensors", ["binary", "json"])
def test_a_sound_server_is_verified(serve: Callable[..., Server], tensors: str) -> None:
    """No bit changes in larger batches and beside other callers; tensors are binary where the server says that it reads them."""
    server = serve(binary=tensors == "binary")

    done = verify(server)

    assert done.returncode == 0, done.stderr
    assert "stub 7" in done.stdout
    assert "verified: every row had the same bits alone and in every batch" in done.stdout
    assert "single rows from 16 callers at once: 384 rows compared, no bit changed" in done.stdout
    assert set(server.bodies) == {tensors}


def test_a_connection_that_was_closed_meanwhile_is_made_anew(serve: Callable[..., Server]) -> None:
    """A server may close a connection between two requests, as servers do with idle ones; the batch is sent again."""
    server = serve()
    server.closes_after = 5

    assert verify(server).returncode == 0


def test_a_server_whose_batches_change_rows_is_found(serve: Callable[..., Server]) -> None:
    """One unit in the last place that comes with the size of the batch ends with status 1 and is shown."""

    def changed(rows: np.ndarray) -> np.ndarray:
        return np.nextafter(sums(rows), np.float32(np.inf)) if len(rows) > 16 else sums(rows)

    done = verify(serve(changed), "--policy", "report")

    assert done.returncode == 1
    assert "rows change with their batch" in done.stdout
    assert "'y' by up to 1 ulps" in done.stdout


def test_a_server_that_batches_callers_together_is_found(serve: Callable[..., Server]) -> None:
    """A row that only changes while others are served is found by callers that send single rows at once."""
    server: Server

    def changed(rows: np.ndarray) -> np.ndarray:
        time.sleep(0.002)
        return sums(rows) + np.float32(server.in_flight > 2)  # the check itself sends two at a time

    server = serve(changed)
    done = verify(server, "--callers", "8", "--json")

    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert found["rows_changed"] == 0
    assert found["concurrent"]["callers"] == 8
    assert found["concurrent"]["changed"] > 0
    assert found["concurrent"]["first"]["output"] == "y"


def test_the_largest_batch_is_the_callers_choice(serve: Callable[..., Server]) -> None:
    """A server that refuses larger batches says so, and --run-rows stays below."""
    server = serve(most_rows=8)
    refused = verify(server)
    assert refused.returncode == 2
    assert "was answered with 400" in refused.stderr
    assert "at most 8 rows" in refused.stderr

    assert verify(server, "--run-rows", "8").returncode == 0


@pytest.mark.parametrize(
    ("metadata", "flags", "says"),
    [
        (b"<html>", (), "was not answered with JSON: <html>"),
        ([], (), "was not answered with an object: []"),
        ({}, (), "does not describe its inputs"),
        ({"inputs": [{"name": "x", "datatype": "BF16", "shape": [-1]}]}, (), "has type BF16"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 3]}]}, (), "no input has a free first axis"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, -1]}]}, (), "--dim x.1=8"),
        (METADATA, ("--replay", "x"), "--replay needs the folder of a bundle"),
    ],
)
def test_what_is_no_such_model_is_a_sentence(
    serve: Callable[..., Server], metadata: Any, flags: tuple[str, ...], says: str
) -> None:
    """Each way in which a server may describe something else ends with status 2 and one sentence."""
    server = serve()
    server.metadata = metadata

    done = verify(server, *flags)

    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_answer_of_another_form_is_a_sentence(serve: Callable[..., Server]) -> None:
    """An answer whose data do not fit its shape is refused, not compared."""
    done = verify(serve(lambda rows: rows.reshape(-1)))

    assert done.returncode == 2
    assert "is not one of the Open Inference Protocol" in done.stderr


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://127.0.0.1:9/v2/models/m", "was not answered"),
        ("ftp://host/v2/models/m", "must be the address of a model"),
        ("http://host/", "must be the address of a model"),
        ("http://user:secret@host/v2/models/m", "no password"),
    ],
)
def test_a_url_that_leads_nowhere_is_a_sentence(url: str, says: str) -> None:
    """What is not the address of a model, or does not answer, ends with status 2."""
    done = verify_url(url)

    assert done.returncode == 2
    assert says in done.stderr
    assert "secret" not in done.stderr


def test_a_path_or_a_url() -> None:
    """One of the two is needed, and both are too many."""
    command = [sys.executable, "-m", "batchproof.service", "verify"]
    for arguments in ([], ["models", "--url", "http://h/v2/models/m"]):
        done = subprocess.run([*command, *arguments], check=False, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "batchproof verify: give a path or --url, one of the two\n"


def test_our_own_service_passes(root: Path) -> None:
    """The committed model behind its own server is verified, texts and numbers among its inputs."""
    with live(root / "models") as server:
        done = verify_url(f"{server.url}/v2/models/penguins", "--run-rows", "64")

    assert done.returncode == 0, done.stderr
    assert "verified: " in done.stdout
