"""One reply never harms another, over every transport: the short and the long way of HTTP, tables and gRPC."""

import fcntl
import json
import random
import socket
import struct
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import pytest

from batchproof.service.server.grpc.messages import SERVICE, classes
from tests.bundles import NUMBERS, make_bundle
from tests.live import Live, free_port, start

MESSAGES = classes()
ROW = [0.5, -0.25, 0.125, 0.0, 1.0]
BODY = json.dumps({"rows": [ROW]}).encode()
TABLE = ",".join(feature["name"] for feature in NUMBERS).encode() + b"\n0.5,-0.25,0.125,0.0,1.0\n"
STAYS_S, LEAVES_S = 20, 7  # deadlines: replies to requests with the second one raise
WAIT_S = 0.03  # in which requests gather to one batch
CODE = f"""
import sys
from batchproof.service.inference.batcher import Batcher
submit = Batcher.submit

def sabotaged(self, arrays, rows, timeout_s, reply, note=None):
    def broken(outputs, error):
        raise ArithmeticError("a reply that raises")
    return submit(self, arrays, rows, timeout_s, broken if {LEAVES_S - 1} < timeout_s <= {LEAVES_S} else reply, note)

Batcher.submit = sabotaged
from batchproof.service.__main__ import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Live, int]]:
    """Serve one small model, gather requests for a moment, and break the replies of requests with a certain deadline."""
    models = tmp_path_factory.mktemp("models")
    make_bundle(models, inputs=NUMBERS)
    port = free_port()
    flags = [
        "--port",
        "0",
        "--grpc-port",
        str(port),
        "--batch-wait-s",
        str(WAIT_S),
        "--table-requests",
        "64",
        "--drain-s",
        "1",
    ]
    command = [sys.executable, "-c", CODE, "serve", "--models", str(models), "--timeout-s", str(STAYS_S), *flags]
    with start(command, {}) as found:
        assert found.process.stderr is not None
        fcntl.fcntl(found.process.stderr, fcntl.F_SETPIPE_SZ, 1 << 20)  # for the log of the test that reads it
        yield found, port


def request(transport: str, timeout_s: int) -> bytes:
    """Return a whole request over HTTP: the short way, the long one, or a table."""
    body, kind = (TABLE, "text/csv") if transport == "table" else (BODY, "application/json")
    path = "/predict?" if transport == "long" else "/predict"
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Connection: close", f"Content-Type: {kind}"]
    lines += [f"X-Request-Timeout-S: {timeout_s}", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def stay(server: tuple[Live, int], transport: str, timeout_s: int = STAYS_S, patience_s: float = 15.0) -> bool:
    """Return whether a caller that waits for it gets its answer."""
    if transport == "grpc":
        return call(server[1], timeout_s, patience_s)
    with socket.create_connection((server[0].host, server[0].port), timeout=patience_s) as connection:
        connection.sendall(request(transport, timeout_s))
        try:
            answer = connection.makefile("rb").read()
        except TimeoutError:
            return False
    return answer.startswith(b"HTTP/1.1 200 OK") and b"green" in answer


def call(port: int, timeout_s: int, patience_s: float) -> bool:
    """Return whether a call over gRPC on a connection of its own gets its answer."""
    tensor = {"name": "features", "datatype": "FP64", "shape": [1, 5]}
    infer = MESSAGES["ModelInferRequest"](
        model_name="flowers", inputs=[tensor], raw_input_contents=[struct.pack("<5d", *ROW)]
    )
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        ask = channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            MESSAGES["ModelInferRequest"].SerializeToString,
            MESSAGES["ModelInferResponse"].FromString,
        )
        answer = ask.future(infer, timeout=timeout_s - 0.2, wait_for_ready=True)
        try:
            return bool(answer.result(timeout=patience_s).outputs)
        except (grpc.FutureTimeoutError, grpc.RpcError, grpc.FutureCancelledError):
            answer.cancel()
            return False


def leave(server: tuple[Live, int], transport: str, after_s: float) -> None:
    """Send a request and go away after a moment, without a word."""
    if transport == "grpc":
        call(server[1], STAYS_S, max(after_s, 0.001))
        return
    with socket.create_connection((server[0].host, server[0].port), timeout=15) as connection:
        connection.sendall(request(transport, STAYS_S))
        time.sleep(after_s)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def queued(server: tuple[Live, int]) -> float:
    """Return how many rows wait once the callers before are gone."""
    for _ in range(100):
        text = httpx.get(server[0].url + "/metrics").text
        (rows,) = [float(line.split()[1]) for line in text.splitlines() if line.startswith("batchproof_queue_rows ")]
        if not rows:
            break
        time.sleep(0.05)
    return rows


@pytest.mark.parametrize("transport", ["short", "long", "table", "grpc"])
def test_a_reply_that_raises_keeps_no_caller_from_its_answer(server: tuple[Live, int], transport: str) -> None:
    """Callers whose reply raises are between others in one batch: every other one is answered, whatever its transport."""
    for _ in range(3):
        with ThreadPoolExecutor(24) as threads:
            broken = [threads.submit(stay, server, transport, LEAVES_S, 1.0) for _ in range(4)]
            others = [
                threads.submit(stay, server, other)
                for _ in range(4)
                for other in ("short", "long", "table", "grpc")
            ]  # fmt: skip
            broken += [threads.submit(stay, server, transport, LEAVES_S, 1.0) for _ in range(4)]
            assert [other.result() for other in others] == [True] * len(others)
            assert not any(caller.result() for caller in broken)
    assert queued(server) == 0
    assert stay(server, transport)


@pytest.mark.parametrize("transport", ["short", "long", "table", "grpc"])
def test_a_caller_that_leaves_at_any_moment_harms_nobody(server: tuple[Live, int], transport: str) -> None:
    """Callers leave before, in and after the moment of their answer: every one that stays is answered."""
    moments = random.Random(transport)
    with ThreadPoolExecutor(24) as threads:
        leaving = [threads.submit(leave, server, transport, moments.uniform(0, 2 * WAIT_S)) for _ in range(150)]
        staying = [threads.submit(stay, server, transport) for _ in range(60)]
        leaving += [threads.submit(leave, server, transport, moments.uniform(0, 2 * WAIT_S)) for _ in range(150)]
        assert [caller.result() for caller in staying] == [True] * len(staying)
        for caller in leaving:
            caller.result()
    assert queued(server) == 0


def test_each_fault_is_one_event(server: tuple[Live, int]) -> None:
    """A reply that raised is logged as one event with its traceback; a caller that left is not logged as an error."""
    process = server[0].process
    assert not stay(server, "short", LEAVES_S, 0.5)
    assert process.stderr is not None
    logged: list[dict[str, str]] = []
    while not any(line["event"] == "unforeseen_error" for line in logged):
        logged.append(json.loads(process.stderr.readline()))
    assert {line["event"] for line in logged if line["level"] == "error"} == {"unforeseen_error"}
    assert "ArithmeticError: a reply that raises" in logged[-1]["trace"]
    assert "InvalidStateError" not in json.dumps(logged)
