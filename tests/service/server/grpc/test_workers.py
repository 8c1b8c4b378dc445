"""gRPC with several workers: one port for all of them, one queue with HTTP in each, and calls that end in peace."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from batchproof.service.server.grpc.messages import SERVICE, classes
from tests.bundles import NUMBERS, make_bundle, random_rows, signature_of
from tests.live import Live, free_port, live

MESSAGES = classes()
ROWS = random_rows(signature_of("multiclass", NUMBERS), 3, seed=5)
DEADLINE_S = 20.0


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model of numbers."""
    folder = tmp_path_factory.mktemp("models")
    make_bundle(folder, inputs=NUMBERS)
    return folder


@pytest.fixture
def both(models: Path) -> Iterator[tuple[Live, str]]:
    """Serve with two workers; returns the server and its gRPC address."""
    port = free_port()
    with live(models, "--workers", "2", "--grpc-port", str(port)) as server:
        yield server, f"127.0.0.1:{port}"


def infer(address: str, rows: int) -> "grpc.Future[Any]":
    """Begin a call on a connection of its own; returns its answer to come."""
    channel = grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
    call = channel.unary_unary(
        f"/{SERVICE}/ModelInfer",
        MESSAGES["ModelInferRequest"].SerializeToString,
        MESSAGES["ModelInferResponse"].FromString,
    )
    request = MESSAGES["ModelInferRequest"](model_name="flowers")
    one = request.inputs.add(name="features", datatype="FP64", shape=[rows, len(ROWS[0])])
    one.contents.fp64_contents.extend(float(value or 0) for row in ROWS[:rows] for value in row)
    answer = call.future(request, timeout=DEADLINE_S, wait_for_ready=True)
    answer.channel = channel  # it lives as long as the call
    return answer


def workers_of(server: Live) -> list[int]:
    """Return the process ids of the workers."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    return [int(pid) for pid in children.split()]


def connections_of(pid: int, port: int) -> int:
    """Return how many connections on `port` a process holds."""
    tables = [Path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6")]
    lines = [line.split() for table in tables for line in table.splitlines()[1:]]
    inodes = {one[9] for one in lines if int(one[1].split(":")[1], 16) == port and one[3] == "01"}
    names = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()]
    return sum(name[8:-1] in inodes for name in names if name.startswith("socket:"))


def test_both_workers_answer_on_the_one_port(both: tuple[Live, str]) -> None:
    """Of many connections each worker gets some, and all calls have the same answer; open ones do not hold up the stop."""
    server, address = both
    port = int(address.rpartition(":")[2])
    calls: list[Any] = []
    held = [0, 0]
    # The server is ready with its first worker; until the second has bound the port, the first gets every connection.
    until_s = time.monotonic() + DEADLINE_S
    while min(held) == 0 and time.monotonic() < until_s:
        calls += [infer(address, 3) for _ in range(24)]
        answers = {call.result().SerializeToString() for call in calls}
        held = [connections_of(pid, port) for pid in workers_of(server)]

    assert len(answers) == 1
    assert len(held) == 2
    assert min(held) > 0
    assert sum(held) == len(calls)


def is_queued(server: Live, call: "grpc.Future[Any]", rows: int) -> bool:
    """Return whether so many rows were seen in the queues of all workers before the call was answered."""
    pattern = re.compile(rf"^batchproof_queue_rows\S* {rows}(\.0)?$", re.MULTILINE)
    while not call.done():
        if pattern.search(httpx.get(f"{server.url}/metrics").text):
            return True
    return False


def test_a_call_in_flight_is_answered_before_the_stop(models: Path) -> None:
    """A call whose rows wait in a worker's queue when the service is told to stop gets its answer."""
    port = free_port()
    with live(models, "--workers", "2", "--grpc-port", str(port), "--batch-wait-s", "1") as server:
        call = infer(f"127.0.0.1:{port}", 3)
        while not is_queued(server, call, 3):  # workers tell each other what they hold once a second
            call = infer(f"127.0.0.1:{port}", 3)
    assert len(call.result().outputs) == 2


def test_admission_is_one_with_http(models: Path) -> None:
    """Rows that came over gRPC fill the queue for HTTP: beyond its rows the caller gets 429, and then the place."""
    port = free_port()
    flags = ("--queue-rows", "3", "--batch-wait-s", "1", "--grpc-port", str(port))
    body = {"rows": [[float(value or 0) for value in ROWS[0]]]}
    with live(models, *flags) as server:
        call = infer(f"127.0.0.1:{port}", 3)
        while not is_queued(server, call, 3):
            call = infer(f"127.0.0.1:{port}", 3)
        refused = httpx.post(f"{server.url}/predict", json=body)
        assert len(call.result().outputs) == 2
        taken = httpx.post(f"{server.url}/predict", json=body)
    assert (refused.status_code, taken.status_code) == (429, 200)
