"""What a stranger's connection may cost, over real sockets: heads, bodies, pipelines, unread answers, half-closed callers."""

import gzip
import json
import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.bundles import make_bundle
from tests.live import Live, live
from tests.service.server.http.connections.test_connection import GOOD, ROW, request, talk, until_the_end

MANY = json.dumps({"rows": [ROW] * 6000}).encode()
CSV = ",".join(ROW).encode() + b"\n" + b"40.5,Oslo,3,2020-01-01,true,1,\n" * 6000
TABLE = request(CSV, "/predict", "POST", "Content-Type: text/csv")
PACKED = request(gzip.compress(MANY), "/predict", "POST", "Content-Encoding: gzip")
CHUNKED = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
MIB = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Serve one small model with a small bound on heads, on bodies in flight and on the time to read an answer."""
    models = tmp_path_factory.mktemp("models")
    make_bundle(models)
    flags = ("--max-head-bytes", "16384", "--max-headers", "50", "--max-inflight-bytes", str(8 * MIB))
    with live(models, *flags, "--write-timeout-s", "0.5") as found:
        yield found


def resident_mib(server: Live) -> int:
    """Return the most memory that the server has had."""
    text = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmHWM")).split()[1]) >> 10


def metric(server: Live, name: str) -> float:
    """Return a figure of the page of metrics."""
    ((_, _, body),) = talk(server, request(b"", "/metrics", "GET"))
    return sum(float(line.split()[-1]) for line in body.decode().splitlines() if line.split(" ")[0] == name)


def flood(server: Live, head: bytes, piece: bytes, most: int) -> tuple[bytes, float]:
    """Send a head and pieces up to `most` bytes; return what came back and the longest wait of a probe beside it."""
    with socket.create_connection((server.host, server.port), timeout=20) as connection:
        connection.sendall(head)
        longest_s = 0.0
        for number in range(most // len(piece)):
            with suppress(OSError):
                connection.sendall(piece)
            if number % 10 == 0:
                started_s = time.monotonic()
                assert talk(server, b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")[0][0] == 200
                longest_s = max(longest_s, time.monotonic() - started_s)
        with suppress(OSError):
            return connection.makefile("rb").read(), longest_s
    return b"", longest_s


@pytest.mark.parametrize(
    ("head", "piece", "status"),
    [
        (b"POST /predict HTTP/1.1\r\nHost: localhost\r\nX-A: ", b"a" * MIB, 431),
        (b"POST /predict HTTP/1.1\r\nHost: localhost\r\n", b"".join(b"%d:a\r\n" % n for n in range(60_000)), 431),
        (b"POST /", b"a" * MIB, 414),
        (CHUNKED + b"2\r\n{}\r\n0\r\n", b"".join(b"%d:a\r\n" % n for n in range(60_000)), 431),
        (CHUNKED + b"2\r\n{}\r\n0\r\nX-A: ", b"a" * MIB, 431),
        (CHUNKED + b"2;", b"a" * MIB, 431),
    ],
    ids=["header", "headers", "url", "trailers", "trailer", "chunk extension"],
)
def test_a_head_without_end_is_refused(server: Live, head: bytes, piece: bytes, status: int) -> None:
    """An endless URL, header, trailer or chunk header costs no memory to speak of, keeps nobody waiting, and is refused."""
    before = resident_mib(server)
    answer, longest_s = flood(server, head, piece, 40 * MIB)
    assert resident_mib(server) - before < 16
    assert longest_s < 1
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.count(b"HTTP/1.1 ") == 1


def test_heads_are_bounded_by_settings(server: Live) -> None:
    """A head up to the bounds is taken, one byte or one header more is refused, whatever pieces it comes in."""
    small = request(GOOD, "/predict", "POST", *(f"X-{number}: a" for number in range(48)))
    large = request(GOOD, "/predict", "POST", *(f"X-{number}: a" for number in range(49)))
    assert talk(server, small)[0][0] == 200
    ((status, headers, body),) = talk(server, large)
    assert (status, headers["connection"], json.loads(body)["error"]["code"]) == (431, "close", "head_too_large")
    for length, wanted in ((16_000, 200), (16_400, 431)):
        assert talk(server, request(GOOD, "/predict", "POST", "X-A: " + "a" * length))[0][0] == wanted
    assert talk(server, request(GOOD, "/predict?" + "a" * 20_000))[0][0] == 414


def test_bodies_in_flight_are_bounded_together(server: Live) -> None:
    """Many callers that send large bodies hold no more than the bound; others beyond it get 429, and later a place."""
    before = resident_mib(server)
    open_ones = []
    for _ in range(20):
        connection = socket.create_connection((server.host, server.port), timeout=10)
        connection.sendall(
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\n\r\n" + b" " * 4_500_000
        )
        open_ones.append(connection)
    time.sleep(1)  # they are read
    ((status, headers, body),) = talk(server, request(GOOD + b" " * 6_000_000))
    assert (status, json.loads(body)["error"]["code"], headers["retry-after"]) == (429, "overloaded", "1")
    packed = gzip.compress(GOOD + b" " * 7_000_000)
    assert talk(server, request(packed, "/predict", "POST", "Content-Encoding: gzip"))[0][0] == 429
    assert talk(server, request(GOOD))[0][0] == 200
    assert resident_mib(server) - before < 60
    for connection in open_ones:
        connection.close()
    time.sleep(0.3)
    assert talk(server, request(GOOD + b" " * 6_000_000))[0][0] == 200


def test_answers_that_nobody_reads_count_among_the_bytes_in_flight(tmp_path: Path) -> None:
    """What the system does not take of answers counts: another large body gets 429, and a place once their callers are gone."""
    make_bundle(tmp_path)
    large = request(json.dumps({"rows": [ROW] * 90_000}).encode())  # its answer is longer than a socket's buffer
    another = request(GOOD + b" " * 9_000_000)
    flags = ("--max-inflight-bytes", str(16 * MIB), "--write-timeout-s", "60")
    with live(tmp_path, *flags) as server, ExitStack() as stack:
        for _ in range(4):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect((server.host, server.port))
            connection.sendall(large)
            assert select.select([connection], [], [], 20)[0]
        ((status, _, refusal),) = talk(server, another)
        assert (status, json.loads(refusal)["error"]["code"]) == (429, "overloaded")
        assert talk(server, request(GOOD))[0][0] == 200
        stack.close()
        time.sleep(0.5)
        assert talk(server, another)[0][0] == 200


def test_callers_that_never_read_take_the_memory_that_may_be_in_flight(tmp_path: Path) -> None:
    """However many callers read nothing of a large answer, a worker grows by the bytes in flight and 64 MiB at most."""
    make_bundle(tmp_path)
    large = request(json.dumps({"rows": [ROW] * 40_000}).encode())
    begins = list[bytes]()
    with live(tmp_path, "--max-inflight-bytes", str(16 * MIB)) as server, ExitStack() as stack:
        assert talk(server, large)[0][0] == 200
        before = resident_mib(server)
        for _ in range(40):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(60)
            connection.connect((server.host, server.port))
            connection.sendall(large)
            begins.append(connection.recv(12, socket.MSG_PEEK))
        rose = resident_mib(server) - before
        assert talk(server, request(GOOD))[0][0] == 200
    assert set(begins) <= {b"HTTP/1.1 200", b"HTTP/1.1 429"}
    assert begins.count(b"HTTP/1.1 200") >= 3
    assert rose < 16 + 64


def test_a_body_in_small_chunks_costs_its_bytes(server: Live) -> None:
    """Millions of chunks of two bytes take the memory of their bytes, not of as many objects."""
    before = resident_mib(server)
    answer, longest_s = flood(server, CHUNKED, b"2\r\n  \r\n" * 100_000, 21 * MIB)
    assert resident_mib(server) - before < 80  # as objects, three million chunks have 130 MiB
    assert longest_s < 1
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")


def test_a_bomb_is_bounded_by_what_may_be_in_flight(server: Live) -> None:
    """A packed body unpacks to what has room among the bodies in flight and no further."""
    before = resident_mib(server)
    bomb = gzip.compress(b" " * (200 * MIB), 9)
    ((status, _, _),) = talk(server, request(bomb, "/predict", "POST", "Content-Encoding: gzip"))
    assert status in (413, 429)
    assert resident_mib(server) - before < 40


def test_pipelined_requests_wait_outside(server: Live) -> None:
    """Thousands of requests that are sent at once are answered in order, and few of them are held."""
    count = 500
    raw = b"".join(request(GOOD, "/predict", "POST", f"X-Request-Id: n{number}") for number in range(count))
    answers = talk(server, raw, count)
    assert [json.loads(body)["request_id"] for _, _, body in answers] == [f"n{number}" for number in range(count)]


@pytest.mark.parametrize(
    "first", [request(GOOD), request(MANY), request(b"", "/models", "GET")], ids=["row", "rows", "page"]
)
def test_a_good_request_is_answered_before_garbage_behind_it(server: Live, first: bytes) -> None:
    """What is not HTTP is refused in its turn: the request before it gets its answer first, then the connection ends."""
    with socket.create_connection((server.host, server.port), timeout=30) as connection:
        connection.sendall(first + b"GARBAGE\r\n\r\n")
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 400 ") == 1
    assert b'"code":"broken_http"' in answer


@pytest.mark.parametrize(
    "raw",
    [
        request(GOOD),
        request(MANY),
        request(b"", "/models", "GET"),
        request(b"", "/health/live", "GET"),
        request(GOOD, "/predict", "POST", "Content-Encoding: identity"),
        request(GOOD, "/predict", "POST", "Accept: text/csv"),
    ],
    ids=["row", "rows", "page", "live", "long way", "table"],
)
def test_a_caller_that_has_said_all_gets_its_answer(server: Live, raw: bytes) -> None:
    """A caller may end its sending side behind its request: it gets the whole answer, and then the end."""
    with socket.create_connection((server.host, server.port), timeout=30) as connection:
        connection.sendall(raw * 2)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile("rb").read()
    assert answer.count(b"HTTP/1.1 200 ") == 2


@pytest.mark.parametrize("behind", [b"GARBAGE\r\n\r\n", request(b"", "/models", "GET"), request(GOOD), b""])
@pytest.mark.parametrize("first", [TABLE, PACKED], ids=["table", "packed"])
def test_every_request_of_a_caller_that_leaves_is_given_up(server: Live, first: bytes, behind: bytes) -> None:
    """A caller that leaves may have several requests open: each of them ends, and nothing unforeseen happens."""
    for pause_s in (0.0, 0.001, 0.003, 0.01, 0.02) * 2:
        with socket.create_connection((server.host, server.port), timeout=30) as connection:
            connection.sendall(first + behind)
            time.sleep(pause_s)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end_s = time.monotonic() + 20
    while metric(server, "batchproof_queue_rows"):
        assert time.monotonic() < end_s, "rows stay in the queue"
        time.sleep(0.02)
    assert metric(server, "batchproof_unforeseen_errors_total") == 0
    assert until_the_end(server, TABLE.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)).startswith(b"HTTP/1.1 200 ")


def test_a_caller_that_ends_in_the_middle_gets_nothing(server: Live) -> None:
    """What is before the cut is answered; the rest of a request will never come."""
    for raw, answers in (
        (request(GOOD)[:-5], 0),
        (request(MANY) + request(GOOD)[:-5], 1),
        (request(MANY) + b"POST /", 1),
    ):
        with socket.create_connection((server.host, server.port), timeout=30) as connection:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            assert connection.makefile("rb").read().count(b"HTTP/1.1 ") == answers


def test_an_answer_that_nobody_reads_is_dropped(server: Live) -> None:
    """A connection whose caller reads nothing of a large answer is cut, so that the answer takes no memory for ever."""
    rows = json.dumps({"rows": [ROW] * 50_000}).encode()
    read = 0
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        connection.connect((server.host, server.port))
        connection.sendall(request(rows))
        assert connection.recv(15, socket.MSG_PEEK).startswith(b"HTTP/1.1 200")
        time.sleep(2)  # four times as long as a caller may read nothing
        with suppress(ConnectionResetError):
            while data := connection.recv(MIB):
                read += len(data)
    assert 0 < read < 5_000_000
    assert talk(server, request(GOOD))[0][0] == 200


@pytest.mark.parametrize("keep", ["", "Connection: keep-alive\r\n"])
def test_http_1_0_connections_end_with_their_answer(server: Live, keep: str) -> None:
    """A caller of HTTP/1.0 gets its answer and the end, whether it asks to keep the connection or not."""
    head = f"POST /predict HTTP/1.0\r\n{keep}Content-Length: {len(GOOD)}\r\n\r\n".encode()
    with socket.create_connection((server.host, server.port), timeout=10) as connection:
        connection.sendall(head + GOOD)
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close\r\n" in answer


@pytest.mark.parametrize("version", [b"HTTP/2.0", b"HTTP/0.9", b""])
def test_other_versions_of_http_are_refused(server: Live, version: bytes) -> None:
    """Only HTTP/1.0 and HTTP/1.1 are spoken here."""
    assert talk(server, b"GET /health/live " + version + b"\r\nHost: localhost\r\n\r\n")[0][0] == 400


@pytest.mark.parametrize("coding", ["gzip, chunked", "identity", "xchunked"])
def test_other_transfer_codings_are_refused(server: Live, coding: str) -> None:
    """A body that only a further decoding would make JSON is not read as if it were plain."""
    raw = CHUNKED.replace(b"chunked", coding.encode()) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD)
    assert talk(server, raw)[0][0] == 400


@pytest.mark.parametrize(
    "raw",
    [
        request(GOOD),
        request(b"{}"),
        request(GOOD, "/predict", "POST", "Content-Encoding: gzip"),
        request(b"", "/nowhere", "GET"),
        request(b"", "/docs", "GET"),
        request(b"", "/metrics", "GET"),
        request(b"", "/v2", "GET"),
        b"GARBAGE\r\n\r\n",
    ],
)
def test_every_answer_says_how_it_may_be_read_and_kept(server: Live, raw: bytes) -> None:
    """No answer may be taken for another type, and none is kept by a cache unless it says so itself."""
    ((_, headers, _),) = talk(server, raw)
    assert headers["x-content-type-options"] == "nosniff"
    assert "cache-control" in headers
