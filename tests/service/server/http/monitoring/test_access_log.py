"""Every answered request has one line in the access log, under the id that its answer carries."""

import json
import socket
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.bundles import make_bundle
from tests.http_client import Answer, ask
from tests.live import Live, live

ROW = [40.5, "Oslo", 3, "2020-01-01", True, 1, None]
GOOD = {"rows": [ROW, ROW]}
TABLE = "length_mm,island,count,seen,adult,grade,owned\n40.5,Oslo,3,2020-01-01,true,1,\n"
CSV = {"content_type": "text/csv"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Serve one small model with a small body limit and little time for bodies, and log every request."""
    models = tmp_path_factory.mktemp("models")
    make_bundle(models)
    flags = ("--access-log", "true", "--max-body-bytes", "4096", "--read-timeout-s", "0.5")
    with live(models, *flags) as found:
        yield found


def lines_until(server: Live, last_id: str) -> list[dict[str, Any]]:
    """Return the access-log lines up to the one of a request that is sent now with this id."""
    ask(server, "GET", "/health/live", x_request_id=last_id)
    assert server.process.stderr is not None
    found: list[dict[str, Any]] = []
    for text in server.process.stderr:
        line = json.loads(text)
        if line.get("request_id") == last_id:
            return found
        found += [line] if line["event"] == "request" else []
    raise AssertionError("the log ended")


def id_in(answer: Answer) -> str:
    """Return the id that the answer carries, in a header or in the native body."""
    return answer.headers.get("x-request-id") or str(answer.content["request_id"])


CASES: dict[str, tuple[str, str, Any, dict[str, str], int]] = {
    "prediction": ("POST", "/predict", GOOD, {}, 200),
    "prediction, the long way": ("POST", "/predict", GOOD, {"content_encoding": "identity"}, 200),
    "own id": ("POST", "/predict", GOOD, {"x_request_id": "mine"}, 200),
    "own id that is none": ("GET", "/models", b"", {"x_request_id": '"quoted"'}, 200),
    "wrong row": ("POST", "/predict", {"rows": [[1]]}, {}, 422),
    "wrong row of a protocol that says 400": ("POST", "/invocations", {"instances": [[1]]}, {}, 400),
    "too large": ("POST", "/predict", b" " * 5000, {}, 413),
    "too large, the long way": ("POST", "/predict", b" " * 5000, {"content_encoding": "identity"}, 413),
    "wrong method": ("GET", "/predict", b"", {}, 405),
    "wrong method of a page": ("PUT", "/models", b"", {}, 405),
    "wrong method of a probe": ("POST", "/health/live", b"", {}, 405),
    "nothing there": ("GET", "/nothing", b"", {}, 404),
    "no such model": ("POST", "/models/nobody/predict", GOOD, {}, 404),
    "no such model of a protocol": ("POST", "/v2/models/nobody/infer", GOOD, {}, 404),
    "foreign page": ("POST", "/predict", GOOD, {"origin": "http://evil.example"}, 403),
    "foreign page that looks": ("GET", "/models", b"", {"origin": "http://evil.example"}, 403),
    "page": ("GET", "/models", b"", {}, 200),
    "probe": ("GET", "/health/live", b"", {}, 200),
    "probe of a protocol": ("GET", "/v2/health/ready", b"", {}, 200),
    "table": ("POST", "/predict", TABLE, CSV, 200),
    "table from JSON": ("POST", "/predict", GOOD, {"accept": "text/csv"}, 200),
    "wrong table": ("POST", "/predict", "length_mm\n1\n", CSV, 422),
    "wrong parameter of a table": ("POST", "/predict?extras=ignore", TABLE, CSV, 400),
    "wrong method with a table": ("GET", "/predict", b"", {"accept": "text/csv"}, 405),
}


@pytest.mark.parametrize("case", CASES)
def test_each_answer_has_one_line_with_its_id(server: Live, case: str) -> None:
    """Whatever answered, there is one line, with the id and the status of the answer and the seconds that it took."""
    method, path, body, headers, status = CASES[case]
    answer = ask(server, method, path, body, **headers)
    (line,) = lines_until(server, f"after {case}".replace(" ", "-"))

    assert (answer.status, line["status"]) == (status, status)
    assert line["request_id"] == id_in(answer)
    assert 0 <= line["seconds"] < 30


def test_lines_of_refusals_say_why_and_those_of_rows_how_many(server: Live) -> None:
    """A refusal's line has its code, a prediction's or a table's its rows."""
    ask(server, "POST", "/predict", GOOD)
    ask(server, "POST", "/predict", TABLE, **CSV)
    ask(server, "POST", "/predict", "length_mm\n1\n", **CSV)
    ask(server, "POST", "/predict", b" " * 5000)
    ask(server, "GET", "/predict")
    lines = lines_until(server, "last")

    assert [line.get("rows") for line in lines] == [2, 1, None, None, None]
    assert [line.get("code") for line in lines] == [None, None, "invalid_table", "body_too_large", "method_not_allowed"]


def test_rows_are_those_that_the_caller_sent(server: Live) -> None:
    """The rows that run for an explanation are counted neither in the log nor in the metric."""
    before = answered_rows(server)
    ask(server, "POST", "/predict", {**GOOD, "explain": True})
    after = answered_rows(server)
    (line,) = [one for one in lines_until(server, "explained") if one.get("route") == "native"]

    assert line["rows"] == len(GOOD["rows"])
    assert after - before == len(GOOD["rows"])


def answered_rows(server: Live) -> float:
    """Return batchproof_rows_total of the native route."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    (line,) = [one for one in lines if one.startswith("batchproof_rows_total") and 'route="native"' in one]
    return float(line.rpartition(" ")[2])


@pytest.mark.parametrize(
    "sent",
    [
        "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{",
        "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: identity\r\nContent-Length: 9\r\n\r\n{",
        "GET /models HTTP/1.1\r\nHost: localhost\r\nAccept: te",
    ],
)
def test_what_does_not_arrive_has_its_line(server: Live, sent: str) -> None:
    """A request that is given up for its time has one line too, with the id of the answer."""
    with socket.create_connection((server.host, server.port), timeout=30) as connection:
        connection.sendall(sent.encode())
        body = connection.makefile("rb").read().partition(b"\r\n\r\n")[2]
    (line,) = lines_until(server, "last")

    assert (line["status"], line["code"]) == (408, "request_timeout")
    assert line["request_id"] == json.loads(body)["request_id"]
