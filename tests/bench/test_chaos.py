"""The chaos benchmark's own judgement: what it counts as right, crossed, lost, hung and flat. Nothing here asserts a speed."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from bench.chaos import callers
from bench.chaos import findings as noted
from bench.chaos.callers import Caller
from bench.chaos.findings import Deaths, Findings
from bench.chaos.questions import Question, message, pieces, questions
from bench.chaos.service import Service
from bench.chaos.watch import trend
from bench.chaos.wire import Reply, Wire


class Fake:
    """As much of a service as a caller asks for."""

    def __init__(self, address: tuple[str, int]) -> None:
        """Stand at an address."""
        self.address = address
        self.deaths = Deaths()


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[Fake]:
    """Answer one connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield Fake(listener.getsockname())
        thread.join()


def question(version: int = 1) -> Question:
    """Return a question whose right answer is b'right'."""
    return Question(
        "native", "numbers", [[1.0]], message("/x", b"{}", "q"), lambda _: version, lambda _: [], {1: b"right"}
    )


def write(connection: socket.socket, body: bytes, status: bytes = b"200 OK") -> None:
    """Read a request and send a whole answer."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))


def asked(answer: Callable[[socket.socket], None], *, version: int = 1, is_dead: bool = False) -> Findings:
    """Return what a caller finds of an answer; with `is_dead` its connection is one of a worker that was killed."""
    findings = Findings(lambda _: None)
    with answering(answer) as fake:
        service: Any = fake
        if is_dead:
            fake.deaths.add(set(range(65536)))
            fake.deaths.explain = lambda *_: True  # type: ignore[method-assign]
        caller = Caller(service, [question(version)], findings, 0)
        caller._exchange([question(version)])
        caller._drop()
    return findings


def test_only_the_bytes_of_the_version_that_is_named_are_right() -> None:
    """A right answer is counted; another body, a version that was not learned and a 500 are crossed, a 503 is refused."""
    assert asked(lambda wire: write(wire, b"right")).answers == {"native": 1}
    assert asked(lambda wire: write(wire, b"wrong")).wrong == {"crossed": 1}
    assert asked(lambda wire: write(wire, b"right"), version=2).wrong == {"crossed": 1}
    assert asked(lambda wire: write(wire, b"right", b"500 No")).wrong == {"crossed": 1}
    assert asked(lambda wire: write(wire, b"{}", b"503 No")).refused == {"503 native": 1}


def test_an_answer_that_does_not_come_is_lost_unless_its_worker_died(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that ends without an answer, or in the middle of one, is lost; with its worker it is not."""
    monkeypatch.setattr(noted, "NOTED_S", 0.05)
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nrig"
    for part in (b"", cut):

        def answer(connection: socket.socket, part: bytes = part) -> None:
            connection.recv(65536)
            connection.sendall(part)

        assert asked(answer).wrong == {"lost": 1}
        assert asked(answer, is_dead=True).ended == 1


def test_an_answer_that_takes_for_ever_is_hung(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller waits for so long and no longer."""
    monkeypatch.setattr(callers, "TIMEOUT_S", 0.05)
    assert asked(lambda connection: (connection.recv(65536) and None) or (connection.recv(1) and None)).wrong == {
        "hung": 1
    }


def test_a_death_that_is_noted_late_explains_as_well() -> None:
    """A caller that sees its connection end before the death is noted waits for the note, over HTTP and gRPC."""
    for is_explained in (lambda deaths: deaths.explain(4000, 0.0), lambda deaths: deaths.since(0.0)):
        deaths = Deaths()
        threading.Timer(0.2, deaths.add, ({4000},)).start()
        assert is_explained(deaths)


def test_a_death_explains_the_connections_of_its_worker_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that was used again after the death, and that of another caller, are not explained."""
    monkeypatch.setattr(noted, "NOTED_S", 0.05)
    deaths = Deaths()
    deaths.add({4000})
    assert deaths.explain(4000, 0.0)
    assert not deaths.explain(4000, 1e12)
    assert not deaths.explain(4001, 0.0)
    deaths.add_starved()
    assert deaths.explain(4001, 0.0)


def test_the_log_of_a_service_is_read_line_by_line() -> None:
    """A line that is no event, a traceback and an error are unhandled; what a busy service refuses is not."""
    findings = Findings(lambda _: None)
    service = Service.__new__(Service)
    service._findings, service._stopped, service.deaths = findings, {7}, Deaths()
    lines = [
        "Traceback (most recent call last):",
        json.dumps({"event": "unforeseen_error", "level": "error", "trace": "..."}),
        json.dumps({"event": "engine_failed", "level": "error"}),
        json.dumps({"event": "request_failed", "level": "error", "code": "internal_error"}),
        json.dumps({"event": "request_failed", "level": "error", "code": "deadline_exceeded"}),
        json.dumps({"event": "worker_hung", "level": "error", "pid": 7}),
        json.dumps({"event": "worker_replaced", "level": "warning", "pid": 7}),
    ]
    for line in lines:
        service._look_at(line)
    assert findings.wrong == {"unhandled": 4}
    service._look_at(json.dumps({"event": "worker_hung", "level": "error", "pid": 8}))
    assert findings.faults == {"worker without processor time": 1}


def test_every_question_is_another_one() -> None:
    """No two questions have the same rows or the same id, so an answer to another one is not right."""
    made = questions(40)
    assert len({one.request for one in made}) == len(made)
    assert {one.kind for one in made} == {"native", "named", "packed", "oip", "v1", "csv", "parquet"}


def test_a_request_in_chunks_is_the_same_request() -> None:
    """The pieces of a slow request join to a chunked body with the bytes of the whole one."""
    (one,) = [found for found in questions(10) if found.kind == "csv"]
    head, _, body = b"".join(pieces(one, 5)).partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    joined = b""
    while body != b"0\r\n\r\n":
        size, _, rest = body.partition(b"\r\n")
        joined, body = joined + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    assert joined == one.request.partition(b"\r\n\r\n")[2]


def test_chunks_are_joined() -> None:
    """The body of an answer in chunks is whole, and the next answer of the connection begins behind it."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        connection.sendall(b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\n{}")

    with answering(answer) as fake, Wire(fake.address, 5) as wire:
        assert wire.reply() == Reply(200, {"transfer-encoding": "chunked"}, b"abcde")
        assert wire.reply().status == 404


@pytest.mark.parametrize(
    ("slope_per_h", "noise", "verdict"),
    [
        *((0.0, 2, "flat"), (0.5, 2, "flat"), (0.9, 0.01, "flat"), (30.0, 2, "GROWS"), (1.5, 0.01, "GROWS")),
        *((0.0, 100, "unclear"), (30.0, 300, "unclear"), (-30.0, 2, "flat"), (-10.0, 300, "unclear")),
    ],
)
def test_a_trend_is_the_slope_with_its_error(slope_per_h: float, noise: float, verdict: str) -> None:
    """A slope grows beyond noise and beyond what matters; it is flat only where a growth of 10 % an hour would have shown."""
    noise = np.random.default_rng(3).normal(0, noise, 720)
    seconds = np.arange(720) * 5.0
    found = trend(list(seconds), list(100 + slope_per_h * seconds / 3600 + noise))
    assert found.slope_per_h == pytest.approx(slope_per_h, abs=4 * found.error_per_h)
    assert found.verdict == verdict


def test_what_grows_while_it_warms_up_is_left_out() -> None:
    """The first fifth of the time is no part of a trend, and figures that are missing are passed over."""
    seconds = np.arange(100) * 5.0
    values = np.where(seconds < 90, seconds, 100.0)
    values[50:60] = np.nan
    assert trend(list(seconds), list(values)).slope_per_h == pytest.approx(0)
