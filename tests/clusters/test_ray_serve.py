"""The service as an application of Ray Serve: two replicas, one that dies, and their number by the waiting rows."""

import contextlib
import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
import ray
from ray import serve

import batchproof.ray  # before ray.serve: it switches usage statistics off
from batchproof import Scorer
from batchproof.service.client.retries import AGAIN
from batchproof.service.errors import SettingError
from tests.clusters.rows import MODEL, ROOT, table

NAMES = ("island", "bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g", "sex")
WAIT_S = 180.0
os.environ["RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S"] = str(WAIT_S)  # of a machine with much else to do


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Give the address of Ray Serve on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ray.init(
        num_cpus=4,  # logical: replicas, proxy and controller
        include_dashboard=False,
        object_store_memory=100 << 20,
        runtime_env={"env_vars": {"PYTHONPATH": str(ROOT), "ORT_DISABLE_TELEMETRY": "1"}},
        _node_ip_address="127.0.0.1",
        logging_level="error",
    )
    with pytest.MonkeyPatch.context() as patch:  # Ray gives its proxy a minute, which is short where other tests run
        patch.setattr("ray.serve._private.api.HTTP_PROXY_TIMEOUT", 4 * 60)
        serve.start(http_options={"host": "127.0.0.1", "port": port})
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()
    ray.shutdown()


def answered(address: str, path: str, body: bytes | None = None, kind: str = "application/json") -> bytes:
    """Return the body of an answer with status 200; where the service asks for patience, ask again as its clients do."""
    end_s = time.monotonic() + WAIT_S
    while True:
        try:
            with urlopen(Request(address + path, body, {"Content-Type": kind}), timeout=WAIT_S) as answer:
                content: bytes = answer.read()
        except HTTPError as refused:
            if refused.code not in AGAIN or time.monotonic() > end_s:
                raise
            time.sleep(float(refused.headers.get("Retry-After", 1)))
        else:
            return content


def rows_of(count: int, seed: int) -> list[list[Any]]:
    """Return rows of penguins as lists."""
    columns = table(count, seed).select(NAMES).to_pydict()
    return [list(row) for row in zip(*columns.values(), strict=True)]


def predictions(address: str, rows: list[list[Any]]) -> list[dict[str, Any]]:
    """Return the predictions of one request."""
    body = json.dumps({"columns": NAMES, "rows": rows}).encode()
    made: list[dict[str, Any]] = json.loads(answered(address, "/predict", body))["predictions"]
    return made


def awaited(what: Callable[[], bool]) -> None:
    """Wait until something holds."""
    end_s = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < end_s
        time.sleep(0.1)


def replica_pids() -> list[int]:
    """Return the processes of the replicas, by the title that Ray gives them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"ServeReplica:default:batchproof" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


def running() -> int:
    """Return how many replicas serve."""
    return serve.status().applications["default"].deployments["batchproof"].replica_states.get("RUNNING", 0)


def test_replicas_and_batches_change_no_bit(address: str) -> None:
    """Alone, among others, in a table, and on either replica, a row has the bits that one process gives it."""
    serve.run(batchproof.ray.application(ROOT / "models", replicas=2))
    rows = rows_of(60, seed=1)
    together = predictions(address, rows)
    with ThreadPoolExecutor(8) as pool:
        alone = list(pool.map(lambda row: predictions(address, [row])[0], rows * 3))
    assert alone == together * 3
    wanted = Scorer(MODEL, extra="ignore")(table(60, 1)).to_pylist()
    assert [each["label"] for each in together] == [row["prediction"] for row in wanted]
    for each, row in zip(together, wanted, strict=True):
        for name, value in each["probabilities"].items():
            assert np.float32(value) == np.float32(row[f"probability_{name}"])
    lines = [",".join(NAMES), *(",".join("" if cell is None else str(cell) for cell in row) for row in rows)]
    scored = answered(address, "/predict", "\n".join(lines).encode(), "text/csv").decode().splitlines()
    assert [line.split(",")[scored[0].split(",").index("prediction")] for line in scored[1:]] == [
        each["label"] for each in together
    ]


def test_pages_and_refusals_are_those_of_the_service(address: str) -> None:
    """Health, the list of models and a refusal come through Ray as they are."""
    assert json.loads(answered(address, "/health/ready"))["ready"] is True
    assert b"penguins" in answered(address, "/models")
    with pytest.raises(HTTPError) as refused:
        answered(address, "/predict", b'{"rows": [{"island": 3}]}')
    assert refused.value.code == 422
    assert json.load(refused.value)["error"]["code"] == "invalid_rows"


def test_a_replica_that_dies_is_replaced(address: str) -> None:
    """After a replica is killed, requests are answered again, with the same bits."""
    rows = rows_of(5, seed=2)
    before = predictions(address, rows)
    os.kill(replica_pids()[0], signal.SIGKILL)
    awaited(lambda: running() < 2)
    awaited(lambda: running() == 2)
    assert predictions(address, rows) == before


def test_the_number_of_replicas_follows_the_waiting_rows(address: str) -> None:
    """With more rows waiting than a replica shall have, Ray starts another one."""
    serve.delete("default")
    scaling = {"metrics_interval_s": 0.2, "look_back_period_s": 1.0, "upscale_delay_s": 0.2}
    serve.run(batchproof.ray.application(ROOT / "models", replicas=(1, 2), queued_rows=1, scaling=scaling))
    assert running() == 1
    rows = rows_of(5000, seed=3)
    with ThreadPoolExecutor(6) as pool:
        while running() < 2:
            assert all(len(made) == 5000 for made in pool.map(predictions, [address] * 6, [rows] * 6))


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"port": 1}, "port"), ({"journal": "j"}, "journal"), ({"max_rowz": 1}, "max_rows"), ({"threads": -1}, "threads")],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], named: str) -> None:
    """A setting of Ray's part, an unknown one and a wrong value are refused before anything runs."""
    with pytest.raises(SettingError, match=named):
        batchproof.ray.application(ROOT / "models", **settings)


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        ({"replicas": "2"}, "replicas is '2'; it must be a whole number"),
        ({"replicas": (8, 2)}, "the least before the most"),
        ({"replicas": 0}, "it must be 1 or more"),
        ({"queued_rows": "many"}, "queued_rows is 'many'; it must be a number above 0"),
        ({"scaling": {"upscale_delay_s": 1}}, "scaling has no effect on a fixed number of replicas"),
        (
            {"replicas": (1, 2), "scaling": {"upscale_delay": 1}},
            "has no 'upscale_delay'. Did you mean 'upscale_delay_s'",
        ),
    ],
)
def test_wrong_parameters_are_refused(wrong: dict[str, Any], sentence: str) -> None:
    """A parameter that Ray would take in silence, or refuse in words of its own, is refused with what is right."""
    with pytest.raises((TypeError, ValueError), match=re.escape(sentence)):
        batchproof.ray.application(ROOT / "models", **wrong)
