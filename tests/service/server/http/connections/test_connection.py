"""The short way of predict requests and the long way through ASGI, over real sockets, byte for byte."""

import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.bundles import make_bundle
from tests.live import Live, live

ROW = {"length_mm": 40.5, "island": "Oslo", "count": 3, "seen": "2020-01-01", "adult": True, "grade": 1, "owned": None}
GOOD = json.dumps({"rows": [ROW]}).encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Serve one small model with a small body limit."""
    models = tmp_path_factory.mktemp("models")
    make_bundle(models)
    with live(models, "--max-body-bytes", "4096", "--allowed-origins", "https://friend.example") as found:
        yield found


def talk(server: Live, raw: bytes, answers: int = 1) -> list[tuple[int, dict[str, str], bytes]]:
    """Send raw bytes on one connection and read so many answers."""
    with socket.create_connection((server.host, server.port), timeout=30) as connection:
        connection.sendall(raw)
        return read_answers(connection, answers)


def read_answers(connection: socket.socket, answers: int) -> list[tuple[int, dict[str, str], bytes]]:
    """Read so many answers."""
    file = connection.makefile("rb")
    found = []
    for _ in range(answers):
        status = int(file.readline().split()[1])
        headers = {}
        while (line := file.readline()) != b"\r\n":
            name, _, value = line.decode().partition(":")
            headers[name.strip().lower()] = value.strip()
        found.append((status, headers, file.read(int(headers.get("content-length", 0)))))
    return found


def request(body: bytes, path: str = "/predict", method: str = "POST", *headers: str) -> bytes:
    """Return the bytes of one request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


LONG = "Content-Encoding: identity"  # changes nothing, and sends the request the long way
CASES = {
    "good": (GOOD, ()),
    "own id": (GOOD, ("X-Request-Id: mine-1",)),
    "bad id": (GOOD, ('X-Request-Id: "quoted"',)),
    "timeout": (GOOD, ("X-Request-Timeout-S: 2",)),
    "bad timeout": (GOOD, ("X-Request-Timeout-S: soon",)),
    "broken": (b'{"rows": [', ()),
    "empty": (b"", ()),
    "wrong row": (b'{"rows": [{"nam": 1}]}', ()),
    "too large": (b'{"rows": [' + b" " * 5000 + b"]}", ()),
    "no rows": (b'{"rows": []}', ()),
    "partial": (json.dumps({"rows": [ROW, [1]], "on_error": "row"}).encode(), ()),
}


@pytest.mark.parametrize("case", CASES)
def test_both_ways_answer_the_same(server: Live, case: str) -> None:
    """A request gets the same status, headers and body on the short and on the long way, but for ids that are made."""
    body, headers = CASES[case]
    (short,) = talk(server, request(body, "/predict", "POST", *headers))
    (long,) = talk(server, request(body, "/predict", "POST", LONG, *headers))
    made = re.compile(rb'"request_id":"[0-9a-f]{8}-[0-9a-f]+"')
    assert short[0] == long[0]
    assert made.sub(b"", short[2]) == made.sub(b"", long[2])
    kept = ("content-type", "allow", "retry-after")
    assert [short[1].get(name) for name in kept] == [long[1].get(name) for name in kept]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("coverage=0.9", 'coverage belongs in the JSON body, not in the URL: {"rows": [...], "coverage": ...}.'),
        ("extra=ignore&explain=true", "explain belongs in the JSON body"),
        ("extras=ignore", "Did you mean 'extra'?"),
        ("on_error=skip", "it must be stop or row"),
        ("nix", "Unknown parameter 'nix'"),
    ],
)
def test_parameters_of_json_are_refused(server: Live, query: str, said: str) -> None:
    """What would add to the answer, and what is unknown, is not passed over: the field of the body is named."""
    ((status, _, body),) = talk(server, request(GOOD, f"/predict?{query}"))
    error = json.loads(body)["error"]
    assert (status, error["code"]) == (400, "invalid_parameter")
    assert said in error["message"]


def test_parameters_of_tables_change_no_json(server: Live) -> None:
    """The routes are documented with them: they pass, and a bad row still refuses the request."""
    both = json.dumps({"rows": [ROW, {}]}).encode()
    assert talk(server, request(GOOD, "/predict?on_error=row&prefix=a_"))[0][0] == 200
    assert talk(server, request(both, "/predict?on_error=row"))[0][0] == 422


def test_other_protocols_take_any_query(server: Live) -> None:
    """Gateways in front of a platform's route may add what they like."""
    body = json.dumps({"instances": [ROW]}).encode()
    assert talk(server, request(body, "/invocations?api-version=1"))[0][0] == 200


def test_statuses(server: Live) -> None:
    """Every kind of refusal has its own status."""
    found = {
        case: talk(server, request(body, "/predict", "POST", *headers))[0][0] for case, (body, headers) in CASES.items()
    }
    wrong = {"bad timeout": 400, "broken": 400, "empty": 400, "wrong row": 422, "too large": 413}
    assert found == {**dict.fromkeys(CASES, 200), **wrong}


def test_pipelined_requests_are_answered_in_order(server: Live) -> None:
    """Requests that arrive together on one connection, short, long and refused, are answered one after another."""
    paths = ["/predict", "/health/live", "/predict", "/predict?", "/predict"]
    raw = b"".join(
        request(
            GOOD if "predict" in path else b"", path, "POST" if "predict" in path else "GET", f"X-Request-Id: n{number}"
        )
        for number, path in enumerate(paths)
    )
    answers = talk(server, raw, len(paths))
    assert [status for status, _, _ in answers] == [200] * 5
    assert [json.loads(body).get("request_id", "live") for _, _, body in answers] == ["n0", "live", "n2", "n3", "n4"]


def test_a_chunked_body_is_bounded_while_it_is_read(server: Live) -> None:
    """A body without a length is refused as soon as it passes the limit, and the connection is not used again."""
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"400\r\n" + b" " * 1024 + b"\r\n"
    (good,) = talk(server, head + b"%x\r\n" % len(GOOD) + GOOD + b"\r\n0\r\n\r\n")
    assert good[0] == 200
    ((status, headers, _),) = talk(server, head + chunk * 5)  # its end never comes
    assert (status, headers["connection"]) == (413, "close")


def test_a_long_body_that_is_refused_by_its_headers_is_read_and_dropped(tmp_path: Path) -> None:
    """The refusal comes after the body, so that the connection goes on with the next request."""
    make_bundle(tmp_path)
    spaces = GOOD + b" " * 200_000
    with live(tmp_path) as roomy:
        raw = request(spaces, "/predict", "POST", "X-Request-Timeout-S: soon") + request(spaces)
        refused, answered = talk(roomy, raw, 2)
    assert (refused[0], json.loads(refused[2])["error"]["code"]) == (400, "invalid_timeout")
    assert "connection" not in refused[1]
    assert answered[0] == 200


def test_a_body_in_pieces_is_one_request(server: Live) -> None:
    """Bytes may come in any pieces."""
    raw = request(GOOD)
    with socket.create_connection((server.host, server.port), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(raw), 7):
            connection.sendall(raw[start : start + 7])
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")


def test_connection_close_is_honoured(server: Live) -> None:
    """A caller that wants the connection closed gets its answer and then the end."""
    for raw in (
        request(GOOD, "/predict", "POST", "Connection: close"),
        request(GOOD).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    ):
        with socket.create_connection((server.host, server.port), timeout=30) as connection:
            connection.sendall(raw)
            answer = connection.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"connection: close\r\n" in answer


def test_expect_continue_is_answered(server: Live) -> None:
    """A caller that asks before it sends its body is told to go on."""
    with socket.create_connection((server.host, server.port), timeout=30) as connection:
        connection.sendall(
            request(b"", "/predict", "POST", "Expect: 100-continue").replace(b"Length: 0", b"Length: %d" % len(GOOD))
        )
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(GOOD)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    ("origin", "status"), [("http://evil.example", 403), ("http://localhost", 200), ("https://friend.example", 200)]
)
@pytest.mark.parametrize("path", ["/predict", "/models"])
def test_foreign_pages_may_not_call(server: Live, path: str, origin: str, status: int) -> None:
    """A page of another origin is refused unless a setting allows it; the service's own pages may call."""
    method, body = ("POST", GOOD) if path == "/predict" else ("GET", b"")
    ((found, headers, _),) = talk(server, request(body, path, method, f"Origin: {origin}"))
    assert found == status
    assert headers.get("access-control-allow-origin") == (origin if "friend" in origin else None)


def test_garbage_is_refused(server: Live) -> None:
    """What is no HTTP gets 400 and the end of the connection, and others are served on."""
    assert talk(server, b"\x16\x03\x01 hello\r\n\r\n")[0][0] == 400
    assert talk(server, request(GOOD))[0][0] == 200


H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAA")
WEBSOCKET = ("Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")


@pytest.mark.parametrize("case", CASES)
def test_a_wish_for_another_protocol_changes_no_answer(server: Live, case: str) -> None:
    """A request that asks for HTTP/2 or a WebSocket is answered as any other: an upgrade that is not spoken is ignored."""
    body, headers = CASES[case]
    own = ("X-Request-Id: one", *headers) if not any("X-Request-Id" in header for header in headers) else headers
    (plain,) = talk(server, request(body, "/predict", "POST", *own))
    for wish in (H2C, WEBSOCKET):
        (asked,) = talk(server, request(body, "/predict", "POST", *own, *wish))
        assert {**asked[1], "date": ""} == {**plain[1], "date": ""}
        assert re.sub(rb'"[0-9a-f]{8}-[0-9a-f]+"', b"", asked[2]) == re.sub(rb'"[0-9a-f]{8}-[0-9a-f]+"', b"", plain[2])


def test_a_wish_for_another_protocol_harms_no_other_request(server: Live) -> None:
    """Requests with and without such a wish are answered in order, however they are sent: together or in small pieces."""
    chunked = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    parts = [
        request(GOOD, "/predict", "POST", "X-Request-Id: n0"),
        request(GOOD, "/predict", "POST", "X-Request-Id: n1", *H2C),
        request(b"", "/health/live", "GET", *WEBSOCKET),
        request(GOOD, "/predict?", "POST", "X-Request-Id: n3", *WEBSOCKET),
        chunked + b"%x\r\n" % len(GOOD) + GOOD + b"\r\n0\r\n\r\n",
        request(GOOD, "/predict", "POST", "X-Request-Id: n5"),
    ]
    raw = b"".join(parts) * 40
    for size in (len(raw), 1000, 37):
        with socket.create_connection((server.host, server.port), timeout=30) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with ThreadPoolExecutor(1) as sender:
                pieces = [raw[start : start + size] for start in range(0, len(raw), size)]
                sending = sender.submit(list, map(connection.sendall, pieces))
                answers = read_answers(connection, 40 * len(parts))
                sending.result()
        assert [status for status, _, _ in answers] == [200] * len(answers)
        ids = [json.loads(body).get("request_id", "live") for _, _, body in answers]
        assert [ids[place :: len(parts)] for place in (0, 1, 2, 3, 5)] == [
            [name] * 40 for name in ("n0", "n1", "live", "n3", "n5")
        ]


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("POST", "http://localhost/predict", 200),
        ("POST", "http://localhost:8000/predict?on_error=row", 200),
        ("GET", "http://localhost", 200),
        ("GET", "http://localhost?a=b", 200),
        ("OPTIONS", "http://localhost", 204),
        ("GET", "https://[::1]:80/health/live", 200),
        ("GET", "http://evil.example/models", 421),
        ("GET", "http://evil.example", 421),
        ("GET", "localhost:80", 400),
        ("GET", "nothing", 400),
    ],
)
@pytest.mark.parametrize("host", ["Host: localhost", "Host: evil.example"])
def test_a_target_may_be_a_whole_url(server: Live, method: str, target: str, status: int, host: str) -> None:
    """A URL in the place of a path is answered as its path, and its host counts, whatever the header Host says."""
    body = GOOD if method == "POST" else b""
    raw = f"{method} {target} HTTP/1.1\r\n{host}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    assert talk(server, raw)[0][0] == status


def test_http_1_0_is_not_told_to_continue(server: Live) -> None:
    """A caller of HTTP/1.0 knows no 100: its Expect is ignored (RFC 9110, 10.1.1)."""
    raw = request(GOOD, "/predict", "POST", "Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    assert until_the_end(server, raw).startswith(b"HTTP/1.1 200 ")


def test_a_caller_that_leaves_hurts_nobody(server: Live) -> None:
    """Connections cut in the middle of a request or before the answer leave the others with theirs."""
    for cut in (20, len(request(GOOD)) - 5, len(request(GOOD))):
        gone = [socket.create_connection((server.host, server.port)) for _ in range(20)]
        for connection in gone:
            connection.sendall(request(GOOD)[:cut])
            connection.close()
        assert talk(server, request(GOOD))[0][0] == 200


def until_the_end(server: Live, raw: bytes) -> bytes:
    """Send raw bytes and read until the server closes."""
    with socket.create_connection((server.host, server.port), timeout=30) as connection:
        connection.sendall(raw)
        return connection.makefile("rb").read()


def test_what_does_not_arrive_is_given_up(tmp_path: Path) -> None:
    """Headers or a body that stop coming get 408 and the end of the connection, on both ways; silence gets the end."""
    make_bundle(tmp_path)
    with live(tmp_path, "--read-timeout-s", "0.2") as server:
        for headers in ((), (LONG,)):
            found = until_the_end(server, request(GOOD, "/predict", "POST", *headers)[:-5])
            assert found.startswith(b"HTTP/1.1 408 "), headers
            assert b"connection: close\r\n" in found
            assert b"did not arrive within 0.2 s" in found
        assert until_the_end(server, request(GOOD)[:50]).startswith(b"HTTP/1.1 408 ")
        assert until_the_end(server, b"") == b""
        first, second = until_the_end(server, request(GOOD) + request(GOOD)[:-5]).split(b"HTTP/1.1 ")[1:]
        assert first.startswith(b"200 OK")
        assert second.startswith(b"408 ")
