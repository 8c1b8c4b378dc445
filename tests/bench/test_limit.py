"""The limit of `make bench`: loops that answer whole requests of every length, and the share of it that the service keeps."""

import socket
import struct
import threading
from pathlib import Path

import pytest

from bench import limit, report
from bench.bodies import own
from bench.contenders import LIMIT, READING_LIMIT, Contender
from bench.contenders import limit as limit_of
from bench.loads import Result
from bench.make_model import REFERENCE, build, write_bundle
from bench.rounds import Measured
from bench.server import Launch, started


def measured(name: str, workers: int, **rates: float) -> Measured:
    results = {load: [Result(rate, rate, 10 / rate, 2.0, 3.0, 0, 0)] for load, rate in rates.items()}
    return Measured(Contender(name, workers, Launch(()), {}), results)


@pytest.mark.parametrize("reads", [False, True])
def test_loops_answer_every_load(tmp_path: Path, *, reads: bool) -> None:
    """Every request of the loads gets an answer of its number of rows, a head that comes in parts is waited for, and callers that hang up end nothing."""
    write_bundle(REFERENCE, tmp_path, build(REFERENCE).SerializeToString())
    contender = limit_of(own(tmp_path), tmp_path / REFERENCE.name / "1" / "model.onnx", 2, reads=reads)

    with started(contender.launch, contender.requests["C"], tmp_path / "limit.log") as server:
        for request in contender.requests.values():
            request.check("127.0.0.1", server.port)
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            body = contender.requests["C"].body
            connection.sendall(b"POST / HTTP/1.1\r\nConte")
            connection.sendall(b"nt-Length: %d\r\n\r\n" % len(body) + body[:5])
            connection.sendall(body[5:])
            content = b""
            while content.count(b'"label"') < 100:
                content += connection.recv(1 << 16)
        usage = server.usage()
        _hang_up(server.port, body)
        for request in contender.requests.values():
            request.check("127.0.0.1", server.port)

    assert usage.processes == 3
    assert content.startswith(b"HTTP/1.1 200 OK\r\n")
    assert content.endswith(b"]}")


def test_a_closed_connection_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that hangs up while another process still has its connection open ends no loop: the next one is answered."""
    monkeypatch.setattr(limit, "runner", lambda _, reads: lambda rows, body: None)
    ours, theirs = socket.socketpair()
    loop = threading.Thread(target=limit.work, args=(Path(), theirs))
    loop.start()
    gone, kept = socket.socketpair()
    caller, handed = socket.socketpair()
    caller.settimeout(10)

    socket.send_fds(ours, [b"c"], [kept.fileno()])
    gone.close()
    socket.send_fds(ours, [b"c"], [handed.fileno()])
    caller.sendall(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
    content = caller.recv(1 << 16)
    ours.close()
    loop.join(10)

    assert content.startswith(b"HTTP/1.1 200 OK")
    assert not loop.is_alive()
    for one in (kept, caller, handed, theirs):
        one.close()


def _hang_up(port: int, body: bytes) -> None:
    """Send requests to both loops, and reset the connections while the answers are made."""
    for _ in range(4):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


@pytest.mark.parametrize(("load", "rows"), [("A", 1), ("C", 100), ("D", 1000), ("E", 1000), ("D-named", 1000)])
def test_bodies_stand_for_their_rows(load: str, rows: int, tmp_path: Path) -> None:
    """A body's length says how many rows the loop runs."""
    write_bundle(REFERENCE, tmp_path, build(REFERENCE).SerializeToString())
    contender = limit_of(own(tmp_path), tmp_path, 1)

    assert limit.answer_of(len(contender.requests[load].body))[0] == rows


def test_shares_are_of_as_many_loops() -> None:
    """A service is compared with as many loops as it has workers: by its rate, or by p50 where one connection waits."""
    every = [
        measured("Batchproof float32, 1 worker", 1, E=50.0),
        measured("Batchproof float32, 2 workers", 2, A=5.0, E=60.0),
        measured(f"{LIMIT} in 2 processes", 2, A=10.0, E=80.0, D=1.0),
        measured(f"{READING_LIMIT} in 2 processes", 2, A=10.0, E=120.0),
    ]

    assert report.limit_shares(every) == [
        "Batchproof float32, 2 workers: A 2.00 x the limit's 1.00 ms p50",
        "Batchproof float32, 2 workers: E 0.75 of the limit's 80 rows/s",
        "Batchproof float32, 2 workers: A 2.00 x the reading limit's 1.00 ms p50",
        "Batchproof float32, 2 workers: E 0.50 of the reading limit's 120 rows/s",
    ]
