"""A stop that loses nothing: `stop_delay_s`, on one and two workers."""

import http.client
import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bundles import make_bundle
from tests.http_client import ask
from tests.live import Live, live

ROW = {"length_mm": 40.5, "island": "Oslo", "count": 3, "seen": None, "adult": True, "grade": 1, "owned": None}
BODY = json.dumps({"rows": [ROW]})
DELAY_S = 1.5


@pytest.fixture(params=["1", "2"])
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Live]:
    """Serve one small model with a delay, by one worker and by two."""
    make_bundle(tmp_path / "models")
    with stoppable(tmp_path / "models", "--workers", request.param, "--stop-delay-s", str(DELAY_S)) as found:
        yield found


@contextmanager
def stoppable(models: Path, *flags: str) -> Iterator[Live]:
    """Serve until the block ends, which may have stopped the service itself."""
    try:
        with live(models, *flags) as found:
            yield found
    except AssertionError as error:
        assert "ended by itself with 0" in str(error)  # noqa: PT017 - what `live` says of a stop within the block


class Caller(threading.Thread):
    """A caller with one connection at a time, kept while the service lets it: as a proxy's pool of connections."""

    def __init__(self, server: Live, path: str) -> None:
        super().__init__()
        self.server = server
        self.path = path
        self.is_over = threading.Event()
        self.answers: list[tuple[int, str | None, float]] = []  # status, Connection header, time
        self.lost: list[str] = []

    def run(self) -> None:
        """Ask again and again; a connection is opened anew after an answer that closes it."""
        while not self.is_over.is_set():
            connection = http.client.HTTPConnection(self.server.host, self.server.port, timeout=10)
            try:
                connection.connect()
            except ConnectionRefusedError:
                self.is_over.wait(0.01)  # a proxy goes to another instance
                continue
            self._ask(connection)
            connection.close()

    def _ask(self, connection: http.client.HTTPConnection) -> None:
        while not self.is_over.is_set():
            try:
                connection.request("POST", self.path, BODY)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(repr(error))
                return
            self.answers.append((answer.status, answer.getheader("connection"), time.monotonic()))
            if answer.getheader("connection") == "close":
                return


def test_a_stop_under_load_loses_no_request(server: Live) -> None:
    """Keep-alive callers of the short and the long way: every request is answered, from SIGTERM on with a closing answer."""
    callers = [Caller(server, path) for path in ("/predict", "/predict?") for _ in range(4)]
    for caller in callers:
        caller.start()
    time.sleep(0.5)
    stopped_s = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    time.sleep(DELAY_S / 2)
    assert ask(server, "GET", "/health/ready").status == 503
    assert ask(server, "GET", "/health/live").status == 200
    time.sleep(DELAY_S / 4)
    for caller in callers:  # a balancer that looks at readiness has sent its callers elsewhere by now
        caller.is_over.set()
    for caller in callers:
        caller.join()
    assert not [lost for caller in callers for lost in caller.lost]
    answers = [answer for caller in callers for answer in caller.answers]
    assert {status for status, _, _ in answers} == {200}
    late = [(connection, at_s) for _, connection, at_s in answers if at_s > stopped_s + 0.3]
    assert len(late) > 50
    assert {connection for connection, _ in late} == {"close"}
    assert server.process.wait(20) == 0
    assert time.monotonic() - stopped_s >= DELAY_S


def test_an_interrupt_does_not_wait(server: Live) -> None:
    """Ctrl-C stops at once, also where a stop with its delay has begun."""
    started_s = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(20) == 0
    assert time.monotonic() - started_s < DELAY_S


def test_no_delay_is_the_default(tmp_path: Path) -> None:
    """Without the setting, SIGTERM ends an idle service at once."""
    make_bundle(tmp_path / "models")
    with stoppable(tmp_path / "models", "--workers", "2") as server:
        started_s = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
        assert time.monotonic() - started_s < 1.5


def test_a_worker_that_dies_during_the_delay_takes_nobody_along(tmp_path: Path) -> None:
    """In a stop no worker is replaced, and the other one answers until the delay has passed."""
    make_bundle(tmp_path / "models")
    with stoppable(tmp_path / "models", "--workers", "2", "--stop-delay-s", "1.5") as server:
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        assert server.process.stderr is not None
        while json.loads(server.process.stderr.readline())["event"] != "ready":
            continue
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        subprocess.run(["kill", "-KILL", children[0]], check=True)
        assert [ask(server, "POST", "/predict", BODY).status for _ in range(6)] == [200] * 6
        assert server.process.wait(20) == 0
