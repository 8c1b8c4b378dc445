"""Tables over HTTP against a real server: streamed, bounded, and never half an answer that looks whole."""

import gzip
import http.client
import json
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from batchproof.service.errors import ServiceError
from batchproof.service.tables.formats import PARQUET, pyarrow
from tests.bundles import INPUTS, make_bundle
from tests.live import Live, live

NAMES = [feature["name"] for feature in INPUTS]
HEAD = ",".join(NAMES) + "\n"
ROW = "33.5,Oslo,3,2020-01-01,true,2,false\n"
ROW_BYTES = len(ROW)
BAD = "long,Oslo,3,2020-01-01,true,2,false\n"
CSV = {"content-type": "text/csv"}
TIMEOUT_S = 2.0


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with one model."""
    folder = tmp_path_factory.mktemp("models")
    make_bundle(folder, "flowers")
    return folder


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Live]:
    """Return a server of that model."""
    with live(models) as found:
        yield found


@pytest.fixture(scope="module")
def small(models: Path) -> Iterator[Live]:
    """Return a server that answers one table at a time, takes small ones and waits little."""
    flags = ("--table-requests", "1", "--timeout-s", str(TIMEOUT_S), "--max-table-bytes", "2000")
    with live(models, *flags) as found:
        yield found


def post(server: Live, body: str | bytes, query: str = "", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(f"{server.url}/predict{query}", content=body, headers={**CSV, **named})


def opened(server: Live, length: int | None = None) -> socket.socket:
    """Return a connection on which the head of a request for a table was sent, its body chunked or of `length`."""
    connection = socket.create_connection((server.host, server.port), timeout=20)
    size = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    connection.sendall(
        f"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/csv\r\n{size}\r\n\r\n".encode()
    )
    return connection


def send_chunk(connection: socket.socket, text: str) -> None:
    connection.sendall(f"{len(text):x}\r\n{text}\r\n".encode())


def received(connection: socket.socket, until: bytes) -> bytes:
    data = b""
    while until not in data:
        part = connection.recv(1 << 16)
        assert part, data[-300:]
        data += part
    return data


def peak_bytes(server: Live) -> int:
    """Return the most memory that the server ever held."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024


def test_the_answer_begins_before_the_body_ends(server: Live) -> None:
    """Rows that came are answered while the caller still sends others."""
    with opened(server) as connection:
        send_chunk(connection, HEAD + 5000 * ROW)
        begun = received(connection, b"33.5,Oslo")
        send_chunk(connection, 3 * ROW)
        connection.sendall(b"0\r\n\r\n")
        whole = begun + received(connection, b"0\r\n\r\n")

    assert begun.startswith(b"HTTP/1.1 200 OK")
    assert whole.count(b"33.5,Oslo") == 5003


def test_a_caller_may_read_late_and_memory_stays(server: Live) -> None:
    """A client that reads nothing until its long body is sent gets all of its answer; the server holds little of both."""
    rows = 400_000
    post(server, HEAD + 5000 * ROW)  # what the first table costs is paid
    before = peak_bytes(server)
    connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
    blocks = (text.encode() for text in (HEAD, *[1000 * ROW] * (rows // 1000)))
    connection.request("POST", "/predict", blocks, CSV, encode_chunked=True)
    answer = connection.getresponse().read()
    connection.close()

    assert answer.count(b"\n") == rows + 1
    assert len(answer) + rows * ROW_BYTES > 40_000_000
    assert peak_bytes(server) - before < 25_000_000


def test_others_are_answered_meanwhile(server: Live) -> None:
    """While a table is open, plain requests are answered."""
    with opened(server) as connection:
        send_chunk(connection, HEAD + 5000 * ROW)
        body = {"rows": [[33.5, "Oslo", 3, "2020-01-01", True, 2, False]]}
        found = httpx.post(f"{server.url}/predict", json=body)
        connection.sendall(b"0\r\n\r\n")
        received(connection, b"0\r\n\r\n")

    assert found.status_code == 200


@pytest.mark.parametrize("target,mark", [("text/csv", "#error "), ("application/jsonlines", "")])
def test_a_late_fault_ends_the_connection(server: Live, target: str, mark: str) -> None:
    """A bad row behind answered ones breaks the answer off, and a last line says which one it was."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=20)
    body = (HEAD + 6000 * ROW + BAD).encode()
    connection.request("POST", "/predict", body, {**CSV, "accept": target})
    with pytest.raises(http.client.IncompleteRead) as broken:
        connection.getresponse().read()
    connection.close()
    lines = broken.value.partial.decode().splitlines()
    error = json.loads(lines[-1].removeprefix(mark))["error"]

    assert lines[-1].startswith(mark)
    assert (error["code"], error["details"][0]["line"]) == ("invalid_rows", 6002)


def test_json_of_a_late_fault_is_no_json(server: Live) -> None:
    """A native answer that breaks off lacks its end."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=20)
    connection.request("POST", "/predict", (HEAD + 6000 * ROW + BAD).encode(), {**CSV, "accept": "application/json"})
    with pytest.raises(http.client.IncompleteRead) as broken:
        connection.getresponse().read()
    connection.close()

    with pytest.raises(json.JSONDecodeError):
        json.loads(broken.value.partial)


def test_an_early_fault_is_a_plain_refusal(server: Live) -> None:
    """A bad row in the first block is answered with 422 and its line, and nothing else is sent."""
    found = post(server, HEAD + ROW + BAD)

    assert found.status_code == 422
    assert found.json()["error"]["details"] == [
        {"line": 3, "feature": "length_mm", "message": "expected a number, got a string"}
    ]


def test_bad_rows_may_be_told_in_their_place(server: Live) -> None:
    """With on_error=row each row has its line: its answer, or what is wrong with it."""
    found = post(server, HEAD + ROW + BAD + ROW, "?on_error=row&answer=alone")
    lines = found.text.splitlines()

    assert found.status_code == 200
    assert lines[0] == "prediction,probability_red,probability_green,probability_blue,error"
    assert lines[1] == lines[3] != lines[2]
    assert lines[2] == ",,,,\"feature 'length_mm': expected a number, got a string\""
    texts = post(server, HEAD + BAD + ROW, "?on_error=row", accept="application/jsonlines").text.splitlines()
    bad, good = map(json.loads, texts)
    assert bad["error"]["details"][0]["line"] == 2
    assert "prediction" in good


def test_added_columns_do_not_replace_the_tables_own(server: Live) -> None:
    """A table that has a column `prediction` is refused; a prefix, or answering alone, makes room."""
    body = HEAD.replace("\n", ",prediction\n") + ROW.replace("\n", ",mine\n")

    assert (
        "column 'prediction' has the same name as a result column"
        in post(server, body, "?extra=ignore").json()["error"]["message"]
    )
    assert "model_prediction" in post(server, body, "?extra=ignore&prefix=model_").text
    assert post(server, body, "?extra=ignore&answer=alone").text.startswith("prediction,probability_red")


def test_a_packed_body_is_unpacked_as_it_comes(server: Live) -> None:
    """Gzip is taken; a body that is cut off, or has another encoding, is refused."""
    plain = (HEAD + 50 * ROW).encode()
    packed = gzip.compress(plain)

    assert post(server, packed, content_encoding="gzip").text == post(server, plain).text
    assert post(server, packed[:-9], content_encoding="gzip").json()["error"]["code"] == "broken_encoding"
    assert post(server, plain, content_encoding="gzip").json()["error"]["code"] == "broken_encoding"
    assert post(server, plain, content_encoding="br").status_code == 415


def test_a_table_has_a_limit(small: Live) -> None:
    """A body beyond max_table_bytes is refused, packed or not."""
    long = HEAD + 100 * ROW

    assert post(small, long).status_code == 413
    assert post(small, gzip.compress(long.encode()), content_encoding="gzip").status_code == 413


def test_a_body_that_does_not_go_on_is_refused(small: Live) -> None:
    """A caller that stops sending holds its place for timeout_s and no longer; others get 429 until then."""
    with opened(small) as connection:
        send_chunk(connection, HEAD)
        deadline_s = time.monotonic() + 20
        while (refused := post(small, HEAD + ROW)).status_code != 429:
            assert time.monotonic() < deadline_s
        stalled = received(connection, b"body_stalled")

    assert refused.headers["retry-after"] == "1"
    assert stalled.startswith(b"HTTP/1.1 408")
    assert post(small, HEAD + ROW).status_code == 200


def test_a_caller_that_goes_away_gives_its_place_back(small: Live) -> None:
    """The one place for a table is free again once its caller has closed the connection."""
    opened(small).close()
    deadline_s = time.monotonic() + 20
    while post(small, HEAD + ROW).status_code != 200:
        assert time.monotonic() < deadline_s


@pytest.mark.parametrize(
    "query,words",
    [
        ("?extras=ignore", "Did you mean 'extra'?"),
        ("?answer=both", "it must be append or alone"),
        ("?on_error=skip", "it must be stop or row"),
    ],
)
def test_parameters_are_refused_by_name(server: Live, query: str, words: str) -> None:
    """An unknown parameter, or value of one, is refused with what is taken."""
    found = post(server, HEAD + ROW, query)

    assert found.status_code == 400
    assert words in found.json()["error"]["message"]


def test_a_bad_row_stops_a_table_in_both_words(server: Live) -> None:
    """What the body of a JSON request may call "request" is taken here too, beside "stop"."""
    found = [post(server, HEAD + BAD, f"?on_error={word}") for word in ("stop", "request")]

    assert [one.status_code for one in found] == [422, 422]
    assert [one.json()["error"]["code"] for one in found] == ["invalid_rows"] * 2


@pytest.mark.parametrize("field,value", [("coverage", 0.9), ("explain", True), ("detail", True)])
@pytest.mark.parametrize("target", ["text/csv", "application/jsonlines", "application/vnd.apache.parquet"])
def test_what_a_table_cannot_hold_is_refused(server: Live, field: str, value: object, target: str) -> None:
    """A JSON body that asks for more than a table's columns is told so by the field's name, and false asks for nothing."""
    content = {"rows": [[33.5, "Oslo", 3, "2020-01-01", True, 2, False]]}
    headers = {"content-type": "application/json", "accept": target}
    found = post(server, json.dumps({**content, field: value}), **headers)

    assert (found.status_code, found.json()["error"]["code"]) == (422, "invalid_request")
    assert f"Where the answer is a table, {field} has no column" in found.json()["error"]["message"]
    assert post(server, json.dumps({**content, "explain": False}), **headers).status_code == 200


def test_without_pyarrow_its_formats_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the extra is not installed a request is refused with 415 and the command that brings it."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # type: ignore[arg-type]

    with pytest.raises(ServiceError, match=r"pip install 'pyarrow>=") as refused:
        pyarrow(PARQUET)
    assert refused.value.status == 415


def test_a_caller_that_sends_before_it_reads_learns_of_a_bad_row(server: Live) -> None:
    """A row that is refused far from the end of a long body: the caller can send all of it, and then reads the reason."""
    body = HEAD + 5000 * ROW + BAD + 400_000 * ROW
    with opened(server, len(body)) as connection:
        connection.sendall(body.encode())
        answer = received(connection, b'"code":"invalid_rows"')
        while part := connection.recv(1 << 16):
            answer += part
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert not answer.endswith(b"0\r\n\r\n")
