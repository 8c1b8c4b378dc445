"""The routes of the Open Inference Protocol on a real server: pages, paths, and the error shape of every failure."""

import http.client
import json
from collections.abc import Iterator

import pytest

from batchproof.service import errors
from batchproof.service.errors import ServiceError
from batchproof.service.protocols.oip.protocol import OpenInference
from tests.bundles import NUMBERS, make_bundle
from tests.http_client import ask
from tests.live import Live, live

BODY = json.dumps({"id": "7", "inputs": [{"name": "features", "shape": [1, 5], "datatype": "FP64", "data": [[1] * 5]}]})
SPECIAL = "a.b_c-1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Serve two models, one in two versions, behind a prefix; requests wait a while for others."""
    models = tmp_path_factory.mktemp("models")
    for name, version in ((SPECIAL, 2), (SPECIAL, 10), ("flowers", 1)):
        make_bundle(models, name, version, inputs=NUMBERS)
    flags = ("--versions", "all", "--root-path", "/ml", "--max-body-bytes", "4096")
    with live(models, *flags) as found:
        yield found


@pytest.mark.parametrize("prefix", ["", "/ml"])
@pytest.mark.parametrize(
    "path",
    [
        "/v2",
        "/v2/",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models",
        "/v2/models/stats",
        f"/v2/models/{SPECIAL}",
        f"/v2/models/{SPECIAL}/",
        f"/v2/models/{SPECIAL}/versions/2",
        f"/v2/models/{SPECIAL}/ready",
        f"/v2/models/{SPECIAL}/versions/10/ready",
        f"/v2/models/{SPECIAL}/config",
        f"/v2/models/{SPECIAL}/versions/2/config",
        f"/v2/models/{SPECIAL}/stats",
        f"/v2/models/{SPECIAL}/versions/2/stats",
        f"/v2/models/{SPECIAL.replace('.', '%2E')}",
        "/v2/systemsharedmemory/status",
        "/v2/cudasharedmemory/status",
    ],
)
def test_pages_answer_without_a_redirect(server: Live, prefix: str, path: str) -> None:
    """Each page answers 200 with JSON, with and without a slash at its end, and behind a prefix; HEAD has no body."""
    found = ask(server, "GET", prefix + path)
    assert (found.status, found.headers["content-type"]) == (200, "application/json")
    assert found.body
    head = ask(server, "HEAD", prefix + path)
    assert (head.status, head.body) == (200, b"")


def test_metadata_has_what_the_protocol_requires(server: Live) -> None:
    """Server and model metadata hold every required field; versions are texts in the order of numbers."""
    assert {"name", "version", "extensions"} <= ask(server, "GET", "/v2").content.keys()
    found = ask(server, "GET", f"/v2/models/{SPECIAL}").content
    assert (found["name"], found["versions"]) == (SPECIAL, ["2", "10"])
    assert found["inputs"] == [{"name": "features", "datatype": "FP64", "shape": [-1, 5]}]
    assert {one["name"]: one["shape"] for one in found["outputs"]} == {"label": [-1, 1], "probabilities": [-1, 3]}


@pytest.mark.parametrize(
    "path, version",
    [
        (f"/v2/models/{SPECIAL}/infer", "10"),
        (f"/v2/models/{SPECIAL}/versions/2/infer", "2"),
        (f"/ml/v2/models/{SPECIAL}/infer", "10"),
        (f"/v2/models/{SPECIAL.replace('_', '%5F')}/infer", "10"),
    ],
)
def test_infer_paths(server: Live, path: str, version: str) -> None:
    """Without a version the newest answers; the version that answered is told as a text, the id given back."""
    found = ask(server, "POST", path, BODY, X_Request_Id="mine").content
    assert (found["model_name"], found["model_version"], found["id"]) == (SPECIAL, version, "7")


def test_no_id_no_id(server: Live) -> None:
    """An answer has an id only where the request has one; the header that traces it is always there."""
    body = BODY.replace('"id": "7", ', "")
    found = ask(server, "POST", "/v2/models/flowers/infer", body, X_Request_Id="mine")
    assert "id" not in found.content
    assert found.headers["x-request-id"] == "mine"


@pytest.mark.parametrize("kind", [None, "text/plain", "application/octet-stream", "nonsense"])
def test_no_content_type_is_asked_for(server: Live, kind: str | None) -> None:
    """The body is what the headers of the protocol say, whatever Content-Type says or does not."""
    headers = {} if kind is None else {"Content_Type": kind}
    assert ask(server, "POST", "/v2/models/flowers/infer", BODY, **headers).status == 200


INFER = "/v2/models/flowers/infer"


@pytest.mark.parametrize(
    "method, path, body, headers, status",
    [
        ("GET", "/v2/nothing", "", {}, 404),
        ("GET", "/v2/models/nobody", "", {}, 404),
        ("GET", "/v2/models/nobody/ready", "", {}, 404),
        ("GET", "/v2/models/flowers/versions/9", "", {}, 404),
        ("GET", "/v2/models/flowers/versions/x/ready", "", {}, 404),
        ("GET", "/v2/models/flowers/nothing", "", {}, 404),
        ("GET", "/v2/models/a%2Fb", "", {}, 404),
        ("POST", "/v2/models/nobody/infer", BODY, {}, 404),
        ("POST", "/v2/models/flowers/versions/9/infer", BODY, {}, 404),
        ("POST", "/ml/v2/models/nobody/infer", BODY, {}, 404),
        ("GET", INFER, "", {}, 405),
        ("PUT", "/ml" + INFER, BODY, {}, 405),
        ("OPTIONS", INFER, "", {}, 405),
        ("OPTIONS", "/v2", "", {}, 405),
        ("POST", "/v2/health/live", "", {}, 405),
        ("GET", "/v2/repository/index", "", {}, 405),
        ("GET", "/v2/repository/models/flowers/load", "", {}, 405),
        ("POST", "/v2/repository/models/flowers/load", "", {}, 501),
        ("POST", "/v2/repository/models/flowers/unload", "", {}, 501),
        ("POST", INFER, "{", {}, 400),
        ("POST", INFER, BODY, {"X_Request_Timeout_S": "soon"}, 400),
        ("POST", INFER, BODY, {"Inference_Header_Content_Length": "-1"}, 400),
        ("POST", INFER, BODY, {"Content_Encoding": "br"}, 415),
        ("POST", INFER, "x" * 5000, {}, 413),
        ("POST", INFER, BODY, {"Origin": "https://elsewhere.example"}, 403),
    ],
)
def test_every_failure_has_the_protocols_shape(
    server: Live, method: str, path: str, body: str, headers: dict[str, str], status: int
) -> None:
    """Each failure of these routes is {"error": sentence}, which is what the clients read."""
    found = ask(server, method, path, body, **headers)
    assert found.status == status
    assert list(found.content) == ["error"]
    assert isinstance(found.content["error"], str)
    assert found.content["error"]
    if status == 405:
        assert found.headers["allow"]
    if status == 415:
        assert found.headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    "error, status",
    [
        (errors.overloaded(5, 5), 429),
        (errors.draining(), 503),
        (errors.withdrawn("flowers"), 503),
        (errors.late(1.0), 504),
        (errors.engine_failed(), 500),
        (errors.body_too_large(5), 413),
        (ServiceError(422, "invalid_rows", "wrong"), 400),
    ],
)
def test_what_happens_behind_the_decoder_has_the_shape_too(error: ServiceError, status: int) -> None:
    """A full queue, a stop, a late run and a failed engine are told in the same shape, Retry-After included."""
    found = OpenInference().failure(error, "id-1")
    assert (found.status, json.loads(found.body)) == (status, {"error": error.message})
    assert dict(found.headers).get(b"retry-after") == (b"1" if error.retry_after_s else None)
    assert dict(found.headers)[b"x-request-id"] == b"id-1"


def test_a_full_queue_and_a_deadline_reach_the_caller(tmp_path_factory: pytest.TempPathFactory) -> None:
    """While a request waits for others, a second finds no place (429) and one with a short deadline is late (504)."""
    models = tmp_path_factory.mktemp("models")
    make_bundle(models, inputs=NUMBERS)
    with live(models, "--batch-wait-s", "1", "--queue-rows", "1") as slow:
        late = ask(slow, "POST", INFER, BODY, X_Request_Timeout_S="0.01")
        assert (late.status, list(late.content)) == (504, ["error"])
        waiting = http.client.HTTPConnection(slow.host, slow.port, timeout=30)
        waiting.request("POST", INFER, BODY)
        full = ask(slow, "POST", INFER, BODY)
        assert (full.status, list(full.content), full.headers["retry-after"]) == (429, ["error"], "1")
        assert waiting.getresponse().status == 200
        waiting.close()


def test_statistics_count_what_ran(server: Live) -> None:
    """Inferences, executions and durations are those of the service's own counts; refusals are failures."""
    path = f"/v2/models/{SPECIAL}/versions/2"
    before = ask(server, "GET", path + "/stats").content["model_stats"][0]
    for body in (BODY, BODY, "{"):
        ask(server, "POST", path + "/infer", body)
    after = ask(server, "GET", path + "/stats").content["model_stats"][0]
    assert after["inference_count"] - before["inference_count"] == 2
    assert after["execution_count"] - before["execution_count"] == 2
    grown = {
        name: (
            one["count"] - before["inference_stats"][name]["count"],
            one["ns"] - before["inference_stats"][name]["ns"],
        )
        for name, one in after["inference_stats"].items()
    }
    assert grown["success"][0] == 2
    assert grown["success"][1] > grown["compute_infer"][1] > 0
    assert (grown["fail"][0], grown["cache_hit"]) == (1, (0, 0))


def test_the_index_lists_versions(server: Live) -> None:
    """The repository index holds each version that is served, ready."""
    found = ask(server, "POST", "/v2/repository/index", "{}").content
    assert [(one["name"], one["version"], one["state"]) for one in found] == [
        (SPECIAL, "2", "READY"),
        (SPECIAL, "10", "READY"),
        ("flowers", "1", "READY"),
    ]
