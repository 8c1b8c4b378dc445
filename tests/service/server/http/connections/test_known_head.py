"""Requests under a head that their connection has parsed before."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproof.service.configuration.settings import Settings
from batchproof.service.protocols.head import RequestHead
from batchproof.service.server.http.connections import known_head
from batchproof.service.server.http.connections.connection import FastHttpProtocol
from batchproof.service.server.http.connections.known_head import KnownHead
from batchproof.service.server.http.connections.pending import ANSWERED
from batchproof.service.server.serving.endpoint import PredictEndpoint
from tests.bundles import make_bundle
from tests.inside import serving
from tests.live import Live, live
from tests.service.server.http.connections.test_connection import CASES, GOOD, read_answers, request
from tests.service.server.serving.test_authorization import write_keys

HEAD = b"POST /predict HTTP/1.1\r\nHost: here\r\ncontent-Length: \t12\r\nX-Note: a\r\n\r\n"
LENGTH = b"\t12"


class Parsed:
    """What the parser says of bytes."""

    def __init__(self, data: bytes) -> None:
        """Parse; raises HttpParserError."""
        self.url, self.headers, self.body, self.ends = b"", list[tuple[bytes, bytes]](), b"", 0
        httptools.HttpRequestParser(self).feed_data(data)

    def on_url(self, url: bytes) -> None:
        """Collect."""
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect, with the name in lower case."""
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        """Collect."""
        self.body += body

    def on_message_complete(self) -> None:
        """Count."""
        self.ends += 1


def known(text: bytes = HEAD, body: bytes = bytes(12)) -> KnownHead | None:
    """Return what a connection knows of a request that it has parsed."""
    return KnownHead.of(text + body, RequestHead("POST", "/predict", b"", Parsed(text + body).headers))


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """Return a request with another length, other bytes, or both."""
    length = draw(
        st.sampled_from(
            [
                b"\t12",
                b"\t0",
                b"\t7",
                b"\t012",
                b"\t+5",
                b"\t1_0",
                b"\t\xb2",
                b" 12",
                b"\t99999",
                b"\t100000",
                b"\t",
                b"\t1 ",
                b"\t3\r\nX: y",
            ]
        )
    )
    data = HEAD.replace(LENGTH, length) + bytes(draw(st.sampled_from([0, 3, 5, 7, 10, 12, 13, 99_999])))
    if draw(st.booleans()):
        place = draw(st.integers(0, len(data)))
        data = data[:place] + draw(st.binary(max_size=2)) + data[place + draw(st.integers(0, 2)) :]
    return data


@given(changed())
def test_what_is_taken_is_what_the_parser_reads(data: bytes) -> None:
    """Whatever comes, a request is taken only where the parser reads the same headers and body, and nothing more."""
    head = known()
    assert head is not None
    found = head.split(data)
    if found is not None:
        taken, body = found
        parsed = Parsed(data)
        assert (parsed.url, parsed.ends) == (b"/predict", 1)
        assert (taken.headers, body) == (parsed.headers, parsed.body)
        anew = RequestHead("POST", "/predict", b"", parsed.headers)
        assert (taken.special, taken.is_plain, taken.grant) == (anew.special, anew.is_plain, None)
        assert taken.request_id != anew.request_id


@pytest.mark.parametrize("length", [0, 1, 12, 345, 99_999])
def test_a_repeated_head_is_taken_whatever_its_length(length: int) -> None:
    """The digits of the length may change, to one digit and to the most that a plain request has."""
    head, data = known(), HEAD.replace(LENGTH, b"\t%d" % length) + bytes(length)
    assert head is not None
    found = head.split(data)
    assert found is not None
    assert (found[0].content_length, found[1]) == (length, bytes(length))


@pytest.mark.parametrize(
    ("text", "body"),
    [
        (HEAD.replace(b"X-Note: a", b"X-Content-Length: 5"), bytes(12)),
        (HEAD.replace(b"X-Note: a", b"X-Note: content-length"), bytes(12)),
        (HEAD.replace(LENGTH, b"\t12 "), bytes(12)),
        (HEAD.replace(b"content-Length: \t12", b"Transfer-Encoding: chunked"), b"0\r\n\r\n"),
        (HEAD, bytes(12) + HEAD + bytes(12)),
        (HEAD.replace(b"X-Note: a", b"X-Note: " + b"a" * 4096), bytes(12)),
    ],
)
def test_heads_that_are_not_known(text: bytes, body: bytes) -> None:
    """Nothing is known of a head whose length has no place of its own, that is long, or behind which more than its body came."""
    assert known(text, body) is None


def test_a_callers_own_id_stays_the_callers() -> None:
    """A head with an id that can be printed gives that id each time; one that cannot, a new one."""
    for own, kept in ((b"mine-1", True), (b'"quoted"', False)):
        head = known(HEAD.replace(b"X-Note: a", b"X-Request-Id: " + own))
        assert head is not None
        ids = {head.split(HEAD.replace(b"X-Note: a", b"X-Request-Id: " + own) + bytes(12))[0].request_id for _ in "ab"}  # type: ignore[index]
        assert (ids == {"mine-1"}) is kept
        assert len(ids) == 2 - kept


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Serve one small model with a small body limit."""
    models = tmp_path_factory.mktemp("models")
    make_bundle(models)
    with live(models, "--max-body-bytes", "4096") as found:
        yield found


def test_answers_on_one_connection_are_those_on_many(server: Live) -> None:
    """Requests of every kind, again and again on one connection, get what each gets on a connection of its own, but for made ids."""
    made = re.compile(rb'"request_id":"[0-9a-f]{8}-[0-9a-f]+"')
    order = [name for name in CASES if name != "too large"]  # which ends its connection

    def answer(connection: socket.socket, name: str) -> tuple[Any, ...]:
        body, headers = CASES[name]
        connection.sendall(request(body, "/predict", "POST", *headers))
        ((status, found, text),) = read_answers(connection, 1)
        return (
            status,
            [(key, value) for key, value in found.items() if key not in ("date", "content-length")],
            made.sub(b"", text),
        )

    alone = {}
    for name in order:
        with socket.create_connection((server.host, server.port), timeout=30) as connection:
            alone[name] = answer(connection, name)
    with socket.create_connection((server.host, server.port), timeout=30) as connection:
        for name in [*order, *order[::-1], *(name for name in order for _ in range(3))]:
            got = answer(connection, name)
            assert [*got[1]] == [*alone[name][1]]
            assert (got[0], got[2]) == (alone[name][0], alone[name][2])
        connection.sendall(request(CASES["too large"][0]))
        assert read_answers(connection, 1)[0][0] == 413


def test_pieces_and_pipelines_behind_a_known_head(server: Live) -> None:
    """However a stream of equal requests is cut, each is answered once and in order."""
    one = request(GOOD)
    with socket.create_connection((server.host, server.port), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sent = [
            one,
            one,
            one[:40],
            one[40:] + one,
            one + one + one[:-1],
            one[-1:],
            one[: len(one) - len(GOOD)],
            GOOD,
            one,
        ]
        for part in sent:
            connection.sendall(part)
            with socket.socket() as other:  # so that the parts do not arrive as one
                other.connect((server.host, server.port))
                other.sendall(request(GOOD))
                other.recv(1)
        found = read_answers(connection, sum(map(len, sent)) // len(one))
    assert {status for status, _, _ in found} == {200}
    assert len({json.loads(text)["request_id"] for _, _, text in found}) == len(found)


def test_the_gate_is_asked_about_every_request(tmp_path: Path) -> None:
    """A caller that repeats its head is refused as soon as its quota is used."""
    make_bundle(tmp_path / "models")
    keys = write_keys(tmp_path / "keys.toml", {"slow": {"scopes": ["predict"], "requests_per_s": 3}})
    with (
        live(tmp_path / "models", "--keys-file", str(tmp_path / "keys.toml")) as server,
        socket.create_connection((server.host, server.port), timeout=30) as connection,
    ):
        statuses = []
        for _ in range(6):
            connection.sendall(request(GOOD, "/predict", "POST", f"X-API-Key: {keys['slow']}"))
            statuses.append(read_answers(connection, 1)[0][0])
    assert statuses[:3] == [200] * 3
    assert 429 in statuses[3:]


def test_an_unforeseen_error_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of this program ends the connection behind a 500 in the shape of the route, and is counted."""
    make_bundle(tmp_path)
    with (
        serving(Settings(models=tmp_path)) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection,
    ):
        for _ in range(3):
            connection.sendall(request(GOOD))
            assert read_answers(connection, 1)[0][0] == 200
        monkeypatch.setattr(PredictEndpoint, "handle", None)
        connection.sendall(request(GOOD))
        ((status, headers, text),) = read_answers(connection, 1)
        assert (status, headers["connection"]) == (500, "close")
        assert json.loads(text)["error"]["code"] == "internal_error"
        assert connection.recv(1) == b""
        assert server.app.counters.events["unforeseen_errors"] == 1


def test_a_connection_learns_few_heads() -> None:
    """A caller whose heads all differ is parsed as before after a few of them."""

    class Turn:
        keep_alive, head = True, RequestHead("POST", "/predict", b"", Parsed(HEAD + bytes(12)).headers)

    connection: Any = FastHttpProtocol.__new__(FastHttpProtocol)
    connection._turn = connection.cycle = Turn()
    connection._arrival = type("Arrival", (), {"since_s": None})
    connection._left_heads = known_head.MOST_HEADS
    for _ in range(known_head.MOST_HEADS):
        assert connection._left_heads
        connection._learn(HEAD + bytes(12))
    assert connection._left_heads == 0


def test_a_known_head_is_not_parsed() -> None:
    """The request behind an answer is taken as it comes; one that begins behind a part of another is parsed."""
    connection: Any = FastHttpProtocol.__new__(FastHttpProtocol)
    taken = []
    connection._known, connection._take = known(), lambda _, data: taken.append(data) or True
    connection._arrival, connection.cycle = type("Arrival", (), {"since_s": None}), ANSWERED
    connection.data_received(b"whole")
    connection._arrival.since_s = 1.0
    with pytest.raises(AttributeError):  # there is no parser
        connection.data_received(b"part")
    assert taken == [b"whole"]
