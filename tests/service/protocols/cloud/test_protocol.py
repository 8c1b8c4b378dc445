"""The scoring routes of the platforms on one real server, and all doors together."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from batchproof.service.protocols.cloud.npy import file_of
from tests.bundles import CLASSES, NUMBERS, make_bundle
from tests.fuzz import binary_tensor, joined
from tests.http_client import ask
from tests.live import Live, live

VALUES = np.random.default_rng(1).uniform(-1, 1, (5, 5)).tolist()
NAMES = [feature["name"] for feature in NUMBERS]
LABELS = CLASSES["multiclass"] or []
DOORS = ["/invocations", "/score", "/v1/models/flowers:predict", "/v1/models/flowers/versions/1:predict", "/mine"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Serve one model, with a route of Vertex AI's choice besides."""
    models = tmp_path_factory.mktemp("models")
    make_bundle(models, inputs=NUMBERS)
    environment = {"AIP_PREDICT_ROUTE": "/mine", "AIP_HEALTH_ROUTE": "/mine"}
    with live(models, "--max-body-bytes", "4096", environment=environment) as found:
        yield found


@pytest.fixture(scope="module")
def predictions(server: Live) -> Any:
    """Return what the native route answers."""
    return ask(server, "POST", "/predict", {"rows": VALUES}).content["predictions"]


def test_every_door_gives_the_same_bits(server: Live, predictions: Any) -> None:
    """Native, scoring and infer routes, JSON, CSV, JSON Lines, array files and binary, answer the same rows with the same bits."""
    wanted = np.array([[one["probabilities"][label] for label in LABELS] for one in predictions], np.float32)
    found: dict[str, Any] = {}
    for path in DOORS:
        answer = ask(server, "POST", path, {"instances": VALUES}).content["predictions"]
        assert answer == predictions
    text = "\n".join(",".join(map(repr, row)) for row in VALUES)
    found["csv"] = [
        line[1:]
        for line in csv.reader(
            io.StringIO(
                ask(server, "POST", "/invocations", text, Content_Type="text/csv", Accept="text/csv").body.decode()
            )
        )
    ]
    lines = ask(
        server, "POST", "/invocations", "\n".join(map(json.dumps, VALUES)), Content_Type="application/jsonlines"
    )
    assert [json.loads(line) for line in lines.body.splitlines()] == predictions
    npy = {"Content_Type": "application/x-npy", "Accept": "application/x-npy"}
    array = ask(server, "POST", "/invocations", file_of(np.array(VALUES)), **npy)
    assert array.headers["content-type"] == "application/x-npy"
    found["npy"] = np.load(io.BytesIO(array.body), allow_pickle=False)
    matrix = {"name": "features", "shape": [5, 5], "datatype": "FP64", "data": np.ravel(VALUES).tolist()}
    asked = ask(server, "POST", "/v2/models/flowers/infer", {"inputs": [matrix]}).content
    found["infer"] = np.reshape(asked["outputs"][1]["data"], (5, 3))
    binary = joined([binary_tensor(matrix)])
    headers = {name.decode().replace("-", "_"): value.decode() for name, value in binary.headers}
    body = ask(server, "POST", "/v2/models/flowers/infer", binary.body, **headers).body
    found["binary"] = np.frombuffer(body[-wanted.nbytes :], "<f4").reshape(5, 3)
    columns = [
        {"name": name, "shape": [5], "datatype": "FP64", "data": [row[place] for row in VALUES]}
        for place, name in enumerate(NAMES)
    ]
    asked = ask(server, "POST", "/v2/models/flowers/infer", {"inputs": columns}).content
    found["columns"] = np.reshape(asked["outputs"][1]["data"], (5, 3))
    for name, values in found.items():
        assert np.array(values, np.float32).tobytes() == wanted.tobytes(), name


def test_a_csv_answer(server: Live, predictions: Any) -> None:
    """A line for each row: the label, and the probability of each class in the order of the signature."""
    answer = ask(server, "POST", "/invocations", {"instances": VALUES}, Accept="text/csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.reader(io.StringIO(answer.body.decode())))
    assert [row[0] for row in rows] == [one["label"] for one in predictions]
    assert len(rows[0]) == 1 + len(LABELS)


@pytest.mark.parametrize("path", DOORS)
@pytest.mark.parametrize(
    "method, body, headers, status",
    [
        ("GET", "", {}, 405),
        ("POST", "{", {}, 400),
        ("POST", {"instances": [[1]]}, {}, 400),
        ("POST", "x" * 5000, {}, 413),
        ("POST", "{}", {"Content_Type": "application/xml"}, 415),
        ("POST", "{}", {"Content_Encoding": "br"}, 415),
        ("POST", "{}", {"X_Request_Timeout_S": "soon"}, 400),
        ("POST", "{}", {"Origin": "https://elsewhere.example"}, 403),
    ],
)
def test_refusals_have_the_platforms_shape(
    server: Live, path: str, method: str, body: Any, headers: dict[str, str], status: int
) -> None:
    """MLflow's code and message, Azure ML's message and KServe's error are where their clients look, on every refusal."""
    if path == "/mine" and method == "GET":
        assert ask(server, method, path).content == {}
        return
    answer = ask(server, method, path, body, **headers)
    assert answer.status == status
    field = {"/score": ["message"]}.get(path) or (
        ["error"] if path.startswith("/v1") else ["error_code", "message", "details"]
    )
    assert list(answer.content) == field
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("path", [*DOORS, "/v2/models/flowers/infer"])
def test_a_repeated_key_is_a_wrong_body(server: Live, path: str) -> None:
    """Every protocol refuses it with 400, in its own shape, by the key's name."""
    key = "inputs" if path.startswith("/v2") else "instances"
    answer = ask(server, "POST", path, f'{{"{key}": [], "{key}": []}}')
    field = "error" if path.startswith("/v") else "message"
    assert (answer.status, answer.content[field]) == (400, f"The key '{key}' is given twice in one object.")


def test_the_request_id_comes_back(server: Live) -> None:
    """The id that the caller gave is in the answer's header, as Azure ML's callers expect."""
    answer = ask(server, "POST", "/score", {"input_data": VALUES}, X_Request_Id="trace-1")
    assert (answer.status, answer.headers["x-request-id"]) == (200, "trace-1")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/ping", "/health", "/version", "/v1/models", "/v1/models/flowers", "/mine"])
def test_health_pages(server: Live, method: str, path: str) -> None:
    """What the platforms look at answers 200 once models are loaded."""
    assert ask(server, method, path).status == 200


@pytest.mark.parametrize(
    "method, path, status",
    [
        ("POST", "/ping", 405),
        ("GET", "/v1/models/nobody", 404),
        ("POST", "/v1/models/nobody:predict", 404),
        ("POST", "/v1/models/flowers:classify", 404),
    ],
)
def test_paths_that_are_not_there(server: Live, method: str, path: str, status: int) -> None:
    """A wrong method or model is refused, never passed on to a page."""
    assert ask(server, method, path).status == status


def test_without_a_default_model_the_platforms_are_told(tmp_path: Any) -> None:
    """Two models and no default: the scoring routes say which setting is missing."""
    for name in ("flowers", "trees"):
        make_bundle(tmp_path, name, inputs=NUMBERS)
    with live(tmp_path) as two:
        answer = ask(two, "POST", "/invocations", {"instances": VALUES})
        assert answer.status == 404
        assert answer.content["message"] == "Set default_model: there is no default among models flowers, trees."
    with live(tmp_path, "--default-model", "trees") as two:
        assert ask(two, "POST", "/invocations", {"instances": VALUES}).status == 200
