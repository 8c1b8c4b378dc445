"""SageMaker: the argument `serve`, /ping within 2 s, /invocations, CSV, JSON and JSON Lines, SIGTERM."""

import csv
import io
import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bundles import NUMBERS, make_bundle
from tests.http_client import ask
from tests.live import Live, free_port
from tests.platforms.hosted import hosted, seconds_of

ROWS = [[0.1 * place + row for place in range(len(NUMBERS))] for row in range(3)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Start the service as SageMaker does."""
    folder = tmp_path_factory.mktemp("sagemaker")
    make_bundle(folder / "models", inputs=NUMBERS)
    port = free_port()
    environment = {"SAGEMAKER_BIND_TO_PORT": str(port), "SAGEMAKER_MAX_PAYLOAD_IN_MB": "1"}
    with hosted(port, environment, "/ping", folder=folder) as found:
        yield found


def test_ping_is_fast_even_while_rows_run(server: Live) -> None:
    """GET /ping answers within 2 s while large requests are under way."""
    many = {"instances": ROWS * 3000}
    busy = [threading.Thread(target=seconds_of, args=(server, "POST", "/invocations", many)) for _ in range(4)]
    for thread in busy:
        thread.start()
    assert max(seconds_of(server, "GET", "/ping") for _ in range(5)) < 2
    for thread in busy:
        thread.join()


def test_every_body_is_the_same_rows(server: Live) -> None:
    """JSON, JSON Lines and CSV without a header line are answered with the same predictions."""
    wanted = ask(server, "POST", "/invocations", {"instances": ROWS}, Content_Type="application/json").content
    lines = "\n".join(json.dumps(row) for row in ROWS)
    answer = ask(server, "POST", "/invocations", lines, Content_Type="application/jsonlines")
    assert answer.headers["content-type"] == "application/jsonlines"
    assert [json.loads(line) for line in answer.body.splitlines()] == wanted["predictions"]
    table = "\n".join(",".join(map(repr, row)) for row in ROWS)
    assert ask(server, "POST", "/invocations", table, Content_Type="text/csv").content == wanted
    answer = ask(server, "POST", "/invocations", table, Content_Type="text/csv", Accept="text/csv")
    labels = [row[0] for row in csv.reader(io.StringIO(answer.body.decode()))]
    assert labels == [one["label"] for one in wanted["predictions"]]


def test_the_platforms_headers_are_passed_over(server: Live) -> None:
    """Headers that the platform adds change nothing."""
    headers = {"X_Amzn_SageMaker_Custom_Attributes": "any", "X_Amzn_SageMaker_Target_Model": "a.tar.gz"}
    assert ask(server, "POST", "/invocations", {"instances": ROWS}, **headers).status == 200


def test_the_payload_limit(server: Live) -> None:
    """SAGEMAKER_MAX_PAYLOAD_IN_MB bounds the body."""
    answer = ask(server, "POST", "/invocations", b" " * ((1 << 20) + 1))
    assert answer.status == 413


def test_a_stop_answers_what_was_admitted(tmp_path: Path) -> None:
    """After SIGTERM a request that was admitted is still answered, and the process ends within 30 s with status 0."""
    make_bundle(tmp_path / "models", inputs=NUMBERS)
    port = free_port()
    environment = {"SAGEMAKER_BIND_TO_PORT": str(port), "BATCHPROOF_BATCH_WAIT_S": "1"}
    with hosted(port, environment, "/ping", folder=tmp_path) as server:
        statuses: list[int] = []

        def call() -> None:
            statuses.append(ask(server, "POST", "/invocations", {"instances": ROWS}).status)

        caller = threading.Thread(target=call)
        caller.start()
        while "batchproof_queue_rows 0" in ask(server, "GET", "/metrics").body.decode():
            assert not statuses, "the request waits for others for a second"
        server.process.send_signal(signal.SIGTERM)
        caller.join()
        assert statuses == [200]
