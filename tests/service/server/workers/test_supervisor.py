"""Several processes behind one address, with real processes and sockets."""

import http.client
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from batchproof.service.configuration.settings import Settings
from batchproof.service.errors import STARTUP_FAILED
from batchproof.service.inference.catalogue.registry import Snapshot
from batchproof.service.runtime.change_counts import ReloadCounts
from batchproof.service.server.workers.conductor import Conductor
from batchproof.service.server.workers.supervisor import Supervisor
from batchproof.service.server.workers.timing import Timing
from tests.bundles import make_bundle
from tests.live import ROOT, Live, live

ROW = {"length_mm": 40.5, "island": "Oslo", "count": 3, "seen": None, "adult": True, "grade": 1, "owned": None}
BODY = json.dumps({"rows": [ROW]})


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Live]:
    """Serve one small model with two workers."""
    make_bundle(tmp_path / "models")
    with live(tmp_path / "models", "--workers", "2") as found:
        yield found


@contextmanager
def connected(server: Live, count: int) -> Iterator[list[http.client.HTTPConnection]]:
    """Open connections one after another and keep them open together."""
    connections = [http.client.HTTPConnection(server.host, server.port, timeout=30) for _ in range(count)]
    try:
        for connection in connections:
            connection.connect()
        yield connections
    finally:
        for connection in connections:
            connection.close()


def predict(connection: http.client.HTTPConnection) -> str:
    """Return the prefix of the made request id: it names the worker."""
    connection.request("POST", "/predict", BODY)
    reply = connection.getresponse()
    content = json.loads(reply.read())
    assert reply.status == 200, content
    return str(content["request_id"]).split("-")[0]


def workers_of(server: Live) -> list[int]:
    """Return the process ids of the workers."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    return [int(pid) for pid in children.split()]


def until_both_serve(server: Live) -> None:
    """Wait until two connections that are open together are with two workers."""
    for _ in range(1000):
        with connected(server, 2) as pair:
            found = {predict(connection) for connection in pair}
        if len(found) == 2:
            return
    raise AssertionError("one worker takes every connection")


@pytest.mark.parametrize("count", [4, 8])
def test_few_connections_spread_evenly(server: Live, count: int) -> None:
    """Connections that are open together are shared out to a difference of one at most."""
    until_both_serve(server)
    with connected(server, count) as connections:
        seen = [predict(connection) for connection in connections]
    shares = [seen.count(worker) for worker in set(seen)]
    assert len(shares) == 2
    assert max(shares) - min(shares) <= 2  # a closed connection may still be on its way to the supervisor's count


def test_a_killed_worker_is_replaced_and_others_go_on(server: Live) -> None:
    """The connections of the surviving worker never notice, and new ones are answered."""
    until_both_serve(server)
    alive: list[str] = []  # the worker of each connection that still answers
    with connected(server, 4) as connections:
        names = [predict(connection) for connection in connections]
        victim = workers_of(server)[0]
        os.kill(victim, signal.SIGKILL)
        for connection, name in zip(connections, names, strict=True):
            with suppress(ConnectionError, http.client.HTTPException):
                assert predict(connection) == name
                alive.append(name)
    assert len(set(names)) == 2
    assert len(set(alive)) == 1
    assert names.count(alive[0]) == len(alive)
    while victim in workers_of(server):  # connections of its last moment are its own and end with it
        continue
    until_both_serve(server)
    assert victim not in workers_of(server)
    assert len(workers_of(server)) == 2


def test_counters_never_fall(server: Live) -> None:
    """Metrics are the sum over all workers, whichever is asked."""
    until_both_serve(server)
    with connected(server, 4) as connections:
        for connection in connections:
            predict(connection)
        least = 0.0
        for connection in connections * 3:
            predict(connection)
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
            assert "batchproof_workers 2.0\n" in text
            wanted = 'batchproof_requests_total{model="flowers",outcome="ok",route="native",version="1"} '
            (count,) = [float(line.removeprefix(wanted)) for line in text.splitlines() if line.startswith(wanted)]
            assert count > least
            least = count


def test_a_worker_that_cannot_start_stops_the_service(tmp_path: Path) -> None:
    """A default model that is not there ends the supervisor with the one exit code, and no worker is left."""
    make_bundle(tmp_path / "models")
    command = [
        sys.executable,
        "-m",
        "batchproof.service",
        "serve",
        "--port",
        "0",
        "--workers",
        "2",
        "--default-model",
        "other",
    ]
    ended = subprocess.run(
        [*command, "--models", str(tmp_path / "models")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == STARTUP_FAILED
    assert "no such model is loaded" in ended.stderr


def test_an_address_in_use_is_said(tmp_path: Path) -> None:
    """One sentence, and the one exit code of a failed start."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-m", "batchproof.service", "serve", "--models", str(tmp_path), "--port"]
        command.append(str(taken.getsockname()[1]))
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == STARTUP_FAILED
    assert "Cannot listen on 127.0.0.1" in ended.stderr


def test_an_event_of_what_was_closed_in_the_same_turn_is_dropped() -> None:
    """Two sockets have news in one turn and the first to be told closes the other: the other is not asked."""
    conductor = Conductor(Settings(), Settings, Snapshot([], []), ReloadCounts())
    supervisor = Supervisor(socket.socket(), 1, lambda *_: 0, Timing(5.0, 0.0, 1.0), lambda _: None, conductor)
    pairs = [socket.socketpair() for _ in range(2)]
    told: list[int] = []

    def close_other(number: int) -> None:
        told.append(number)
        other = pairs[1 - number][0]
        supervisor._selector.unregister(other)
        other.close()

    for number, (ours, theirs) in enumerate(pairs):
        theirs.send(b"x")
        supervisor._selector.register(ours, selectors.EVENT_READ, partial(close_other, number))
    supervisor._turn(0.0)
    assert len(told) == 1
    for end in (*pairs[0], *pairs[1], supervisor._listener):
        end.close()
    supervisor._selector.close()
