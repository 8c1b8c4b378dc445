"""Azure ML online endpoints: AZUREML_MODEL_DIR, port 5001, /score, liveness and readiness at any path."""

from pathlib import Path

from tests.bundles import NUMBERS, make_bundle
from tests.http_client import ask
from tests.live import free_port
from tests.platforms.hosted import hosted

NAMES = [feature["name"] for feature in NUMBERS]
ROWS = [[0.1, 0.2, 0.3, None, 0.5], [1, 2, 3, 4, 5]]


def test_the_contract(tmp_path: Path) -> None:
    """The model folder that the platform mounts is served; /score takes its data frames and traces by the header; /swagger.json tells of it."""
    folder = make_bundle(tmp_path / "azureml-models", inputs=NUMBERS)
    port = free_port()
    environment = {"AZUREML_MODEL_DIR": str(folder.parent), "BATCHPROOF_PORT": str(port)}
    with hosted(port, environment, "/health/ready", folder=tmp_path) as server:
        body = {"input_data": {"columns": NAMES, "index": [0, 1], "data": ROWS}}
        answer = ask(server, "POST", "/score", body, X_Request_Id="trace-7")
        assert answer.status == 200
        assert answer.headers["x-request-id"] == "trace-7"
        assert answer.content == ask(server, "POST", "/score", {"input_data": ROWS}).content
        for path in ("/", "/health/live", "/health/ready"):
            assert ask(server, "GET", path).status == 200
        document = ask(server, "GET", "/swagger.json").content
        assert "/score" in document["paths"]
        assert document == ask(server, "GET", "/swagger.json?version=3").content
        older = ask(server, "GET", "/swagger.json?version=2")
        assert (older.status, list(older.content)) == (404, ["message"])
        wrong = ask(server, "POST", "/score", {"input_data": [[1]]}, X_Request_Id="trace-8")
        assert (wrong.status, list(wrong.content), wrong.headers["x-request-id"]) == (400, ["message"], "trace-8")
