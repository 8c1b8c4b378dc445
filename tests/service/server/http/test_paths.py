"""How paths are written: slashes at their end, OPTIONS of the service as a whole, and what `GET /` answers."""

import socket
from collections.abc import Iterator

import httpx
import pytest

from tests.bundles import NUMBERS, make_bundle
from tests.live import Live, live

VALUES = [[0.1, 0.2, 0.3, 0.4, 0.5]]
TENSOR = {"name": "features", "shape": [1, 5], "datatype": "FP64", "data": VALUES}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Serve one model behind the prefix /ml."""
    models = tmp_path_factory.mktemp("models")
    make_bundle(models, "numbers", inputs=NUMBERS)
    with live(models, "--root-path", "/ml") as found:
        yield found


@pytest.mark.parametrize("prefix", ["", "/ml"])
@pytest.mark.parametrize("slashes", ["/", "//"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict", {"rows": VALUES}),
        ("/models/numbers/predict", {"rows": VALUES}),
        ("/models/numbers/versions/1/predict", {"rows": VALUES}),
        ("/invocations", {"instances": VALUES}),
        ("/score", {"input_data": VALUES}),
        ("/v1/models/numbers:predict", {"instances": VALUES}),
        ("/v2/models/numbers/infer", {"inputs": [TENSOR]}),
        *((path, None) for path in ("/models", "/models/numbers", "/health/live", "/health/ready", "/metrics")),
        *((path, None) for path in ("/ping", "/version", "/v1/models", "/v2", "/v2/models/numbers", "/openapi.json")),
    ],
)
def test_a_slash_at_the_end_changes_nothing(server: Live, prefix: str, slashes: str, path: str, body: object) -> None:
    """Every route answers with and without slashes at its end alike, behind the prefix too."""
    given = [server.url + prefix + path + end for end in ("", slashes)]
    method = "GET" if body is None else "POST"
    plain, slashed = (httpx.request(method, url, json=body) for url in given)

    assert (plain.status_code, slashed.status_code) == (200, 200)
    if "predict" in path:
        assert slashed.json()["predictions"] == plain.json()["predictions"]


def test_a_table_may_come_with_a_slash(server: Live) -> None:
    """Where a table comes the path is read alike."""
    table = ",".join(feature["name"] for feature in NUMBERS) + "\n0.1,0.2,0.3,0.4,0.5\n"
    plain, slashed = (
        httpx.post(server.url + path, content=table, headers={"content-type": "text/csv"})
        for path in ("/predict", "/predict/")
    )
    assert (plain.status_code, plain.text) == (slashed.status_code, slashed.text) == (200, plain.text)


@pytest.mark.parametrize("prefix", ["", "/ml"])
def test_a_browser_is_sent_to_the_page_without_a_slash(server: Live, prefix: str) -> None:
    """Links in a page are relative to its path; the start page has a slash of its own."""
    html = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    for page in ("/docs", "/models/numbers/report"):
        sent = httpx.get(f"{server.url}{prefix}{page}/", headers=html)
        assert (sent.status_code, sent.headers["location"]) == (308, f"../{page.rpartition('/')[2]}")
        assert httpx.get(f"{server.url}{prefix}{page}/", headers=html, follow_redirects=True).url.path == prefix + page
    assert "<title>Models · Batchproof" in httpx.get(f"{server.url}{prefix}/", headers=html).text


@pytest.mark.parametrize("target", ["*", "/", "/ml/"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_options_of_the_service_are_a_health_check(server: Live, target: str, version: str) -> None:
    """`OPTIONS *` and `OPTIONS /`, HAProxy's own check, are answered 204 with the methods, with or without a host."""
    with socket.create_connection((server.host, server.port), timeout=10) as connection:
        host = "Host: localhost\r\n" if version == "1.1" else ""
        connection.sendall(f"OPTIONS {target} HTTP/{version}\r\n{host}Connection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(4096), b"")).lower()
    assert answer.startswith(b"http/1.1 204")
    assert b"\r\nallow: get, head, post, options\r\n" in answer


def test_get_of_the_root(server: Live) -> None:
    """Who prefers JSON is told that the service is alive, as clients of KServe ask; browsers and curl get the page."""
    answers = {
        accept: httpx.get(server.url, headers={"accept": accept})
        for accept in ("application/json", "*/*", "text/html, */*;q=0.1", "application/json;q=0.9, text/html;q=0.1")
    }
    assert [answer.headers["content-type"].partition(";")[0] for answer in answers.values()] == [
        "application/json",
        "text/html",
        "text/html",
        "application/json",
    ]
    assert answers["application/json"].json() == {"status": "alive"}


def test_the_document_names_the_prefix(server: Live) -> None:
    """A client made from the OpenAPI document asks behind the prefix."""
    document = httpx.get(server.url + "/openapi.json").json()
    assert document["servers"] == [{"url": "/ml"}]
    (url,) = (one["url"] for one in document["servers"])
    assert httpx.post(server.url + url + "/predict", json={"rows": VALUES}).status_code == 200


def test_an_explanation_of_kserve(server: Live) -> None:
    """`:explain` answers with the predictions of `:predict`, each with the explanation of the native route."""
    rows = [*VALUES, [None, 1.0, -1.0, None, 0.0]]
    rows[1][0] = 0.0  # the first features were never missing in training
    rows[1][3] = None
    answers = {
        verb: httpx.post(f"{server.url}/v1/models/numbers:{verb}", json={"instances": rows})
        for verb in ("predict", "explain")
    }
    native = httpx.post(f"{server.url}/predict", json={"rows": rows, "explain": True}).json()["predictions"]

    assert [answer.status_code for answer in answers.values()] == [200, 200]
    assert answers["explain"].json() == {"predictions": native}
    plain = [{name: row[name] for name in ("label", "probabilities")} for row in native]
    assert answers["predict"].json() == {"predictions": plain}
    assert httpx.post(f"{server.url}/v1/models/numbers/versions/1:explain", json={"instances": []}).json() == {
        "predictions": []
    }


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", "/v1/models/number:explain", {"instances": VALUES}, 404, "Did you mean 'numbers'"),
        ("POST", "/v1/models/numbers:explain", {"instances": [["x"] * 5]}, 400, "expected a number, got a string"),
        ("POST", "/v1/models/numbers:explain", {"instances": VALUES * 4000}, 400, "explain runs 32 rows for each"),
        ("GET", "/v1/models/numbers:explain", None, 405, "use POST"),
    ],
)
def test_explanations_that_are_refused(
    server: Live, method: str, path: str, body: object, status: int, words: str
) -> None:
    """A refusal has the shape of the protocol."""
    answer = httpx.request(method, server.url + path, json=body)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert words in answer.json()["error"]
