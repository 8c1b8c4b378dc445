"""Calls over gRPC have ids and lines in the log as requests over HTTP have."""

import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from batchproof.service.server.grpc.messages import SERVICE, classes
from tests.bundles import make_bundle
from tests.live import Live, free_port, live

MESSAGES = classes()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Live, grpc.Channel]]:
    """Serve one model, log every request, and open a channel."""
    models = tmp_path_factory.mktemp("models")
    make_bundle(models)
    port = free_port()
    with (
        live(models, "--grpc-port", str(port), "--access-log", "true") as found,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        yield found, channel


def call(channel: grpc.Channel, method: str, fields: dict[str, Any], metadata: dict[str, str]) -> tuple[Any, str]:
    """Return the status of one call, and the id that its answer carries."""
    ask = channel.unary_unary(
        f"/{SERVICE}/{method}",
        MESSAGES[f"{method}Request"].SerializeToString,
        MESSAGES[f"{method}Response"].FromString,
    )
    request = MESSAGES[f"{method}Request"](**fields)
    answer = ask.future(request, metadata=tuple(metadata.items()), timeout=20.0, wait_for_ready=True)
    return answer.code(), dict(answer.trailing_metadata())["x-request-id"]


@pytest.mark.parametrize(
    "method, fields, metadata, status, code",
    [
        ("ServerLive", {}, {}, 200, None),
        ("ServerLive", {}, {"x-request-id": "mine"}, 200, None),
        ("ModelMetadata", {"name": "nobody"}, {}, 404, "unknown_model"),
        ("ModelInfer", {"model_name": "flowers"}, {"x-request-id": "not one"}, 400, "invalid_request"),
    ],
)
def test_each_call_has_one_line_with_the_id_of_its_answer(
    server: tuple[Live, grpc.Channel], method: str, fields: Any, metadata: Any, status: int, code: str | None
) -> None:
    """Answered or refused, a call has one line with its method, HTTP's status and the id in its trailing metadata."""
    found, channel = server
    answered, request_id = call(channel, method, fields, metadata)
    assert found.process.stderr is not None
    line = json.loads(found.process.stderr.readline())

    assert (answered is grpc.StatusCode.OK) == (status == 200)
    assert (line["event"], line["route"], line["method"]) == ("request", "grpc", method)
    assert (line["status"], line.get("code"), line["request_id"]) == (status, code, request_id)
    assert (request_id == "mine") == (metadata.get("x-request-id") == "mine")
    assert 0 <= line["seconds"] < 20
