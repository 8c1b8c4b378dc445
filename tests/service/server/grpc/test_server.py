"""Calls over gRPC have ids, lines in the log and limits as requests over HTTP have."""

import json
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from batchproof.service.configuration.settings import Settings
from batchproof.service.server.grpc.messages import SERVICE, classes
from tests.bundles import NUMBERS, make_bundle
from tests.inside import Inside, serving
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


LIMIT_BYTES = 1 << 20


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Inside, grpc.Channel]]:
    """Serve a model of numbers with a small bound on bytes in flight, and open a channel."""
    models, port = tmp_path_factory.mktemp("models"), free_port()
    make_bundle(models, "numbers", inputs=NUMBERS)
    settings = Settings(models=str(models), port=0, grpc_port=port, max_inflight_bytes=LIMIT_BYTES)
    with serving(settings) as found, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield found, channel


def infer(channel: grpc.Channel, rows: int) -> Any:
    """Send rows of zeros and return the call, which is answered."""
    tensor = {"name": "features", "datatype": "FP64", "shape": [rows, len(NUMBERS)]}
    request = MESSAGES["ModelInferRequest"](
        model_name="numbers", inputs=[tensor], raw_input_contents=[np.zeros((rows, len(NUMBERS))).tobytes()]
    )
    ask = channel.unary_unary(
        f"/{SERVICE}/ModelInfer",
        MESSAGES["ModelInferRequest"].SerializeToString,
        MESSAGES["ModelInferResponse"].FromString,
    )
    answer = ask.future(request, timeout=20.0, wait_for_ready=True)
    answer.code()
    return answer


@pytest.mark.parametrize("rows", [1, 1000, 20_000])
def test_messages_count_among_the_bytes_in_flight(inside: tuple[Inside, grpc.Channel], rows: int) -> None:
    """A message has no place where bodies of others hold all of it, and gives its own back with its answer."""
    server, channel = inside
    in_flight = server.app.shared.in_flight
    in_flight.take(LIMIT_BYTES - 10)
    refused = infer(channel, rows)
    in_flight.give(LIMIT_BYTES - 10)
    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert dict(refused.trailing_metadata())["retry-after"] == "1"
    assert infer(channel, rows).code() is grpc.StatusCode.OK
    assert in_flight.held_bytes == 0


def test_a_message_larger_than_all_that_may_be_in_flight_is_refused(inside: tuple[Inside, grpc.Channel]) -> None:
    """A message that could never have a place is refused by its length, before it is read."""
    _, channel = inside
    assert infer(channel, 30_000).code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_messages_that_hold_no_rows_are_short(inside: tuple[Inside, grpc.Channel]) -> None:
    """Parsing a message keeps others waiting, so a question about a model may not have 100 kB."""
    _, channel = inside
    status, _ = call(channel, "ModelReady", {"name": "n" * 100_000}, {})
    assert status is grpc.StatusCode.RESOURCE_EXHAUSTED
