"""Vertex AI: AIP_HTTP_PORT, AIP_HEALTH_ROUTE, AIP_PREDICT_ROUTE, instances in and predictions out."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.bundles import INPUTS, make_bundle, random_rows, signature_of
from tests.http_client import ask
from tests.live import ROOT, free_port
from tests.platforms.hosted import hosted

NAMES = [feature["name"] for feature in INPUTS]
ROWS = [dict(zip(NAMES, row, strict=True)) for row in random_rows(signature_of(), 5)]
DEFAULT = "/v1/endpoints/123/deployedModels/456:predict"


@pytest.mark.parametrize("health, predict", [("/health", "/predict"), ("/isalive", "/score-it"), (DEFAULT, DEFAULT)])
def test_the_contract(tmp_path: Path, health: str, predict: str) -> None:
    """The routes that the platform names answer, on its port, one prediction for each instance in order."""
    make_bundle(tmp_path / "models")
    port = free_port()
    environment = {
        "AIP_MODE": "PREDICTION",
        "AIP_HTTP_PORT": str(port),
        "AIP_HEALTH_ROUTE": health,
        "AIP_PREDICT_ROUTE": predict,
        "AIP_STORAGE_URI": "",
    }
    with hosted(port, environment, health, folder=tmp_path) as server:
        answer = ask(server, "POST", predict, {"instances": ROWS, "parameters": {"any": 1}})
        assert answer.status == 200
        assert list(answer.content) == ["predictions"]
        assert answer.content["predictions"] == [
            ask(server, "POST", predict, {"instances": [row]}).content["predictions"][0] for row in ROWS
        ]
        assert ask(server, "POST", predict, {"instances": [{}]}).status == 400


def test_a_predict_route_of_another_protocol(tmp_path: Path) -> None:
    """The raw predict method carries any body: a route of the Open Inference Protocol speaks that protocol."""
    make_bundle(tmp_path / "models")
    port = free_port()
    route = "/v2/models/flowers/infer"
    environment = {"AIP_HTTP_PORT": str(port), "AIP_HEALTH_ROUTE": "/v2/health/ready", "AIP_PREDICT_ROUTE": route}
    with hosted(port, environment, "/v2/health/ready", folder=tmp_path) as server:
        assert list(ask(server, "POST", route, {"instances": ROWS}).content) == ["error"]


def test_a_route_without_a_slash_is_refused(tmp_path: Path) -> None:
    """A route that cannot be one stops the start with a sentence and exit code 2."""
    ended = subprocess.run(
        [sys.executable, "-m", "batchproof.service", "serve"],
        cwd=tmp_path,
        env={"AIP_HTTP_PORT": "0", "AIP_PREDICT_ROUTE": "predict", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2
    assert "AIP_PREDICT_ROUTE" in ended.stderr
