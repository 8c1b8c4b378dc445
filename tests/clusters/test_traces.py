"""A real receiver of OTLP: MLflow's server shows the joined trace of a client, the service and its run."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from batchproof import Client
from tests.clusters.rows import ROOT
from tests.live import live

ROW = {
    "island": "Dream",
    "bill_length_mm": 44.1,
    "bill_depth_mm": 19.7,
    "flipper_length_mm": 196,
    "body_mass_g": 4400,
    "sex": "male",
}


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run MLflow's server on a database of its own; gives its address."""
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/traces.db"),
        *("--artifacts-destination", str(folder / "artifacts"), "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", "1"),
    ]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # MLflow starts uvicorn by its name
    url = f"http://127.0.0.1:{port}"
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            command, env={**os.environ, "PATH": path}, stdout=log, stderr=log, start_new_session=True
        ) as process,
    ):
        try:
            _wait(lambda: urllib.request.urlopen(f"{url}/health", timeout=5).status == 200, "the server's start")
            yield url
        finally:
            os.killpg(process.pid, 15)


def _wait(is_there: Any, what: str) -> Any:
    """Return what `is_there` finds as soon as it finds something."""
    end_s = time.monotonic() + 120
    while time.monotonic() < end_s:
        try:
            if found := is_there():
                return found
        except OSError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"{what} did not come")


def test_mlflow_shows_the_joined_trace(receiver: str) -> None:
    """One trace has the client's span, the service's span below it and the parts of the request below that."""
    mlflow.set_tracking_uri(receiver)
    experiment = mlflow.create_experiment("traces")
    headers = {"x-mlflow-experiment-id": experiment}
    variables = {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{receiver}/v1/traces",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": f"x-mlflow-experiment-id={experiment}",
        "OTEL_BSP_SCHEDULE_DELAY": "20",
    }
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{receiver}/v1/traces", headers=headers)))
    with live(ROOT / "models", environment=variables) as server:
        with provider.get_tracer("tests").start_as_current_span("client"), Client(server.url) as client:
            client.predict([ROW])
        trace = _wait(lambda: _whole(experiment), "the trace")
    spans = {span.name: span for span in trace.data.spans}
    service = spans["POST /models/{model}/predict"]

    assert service.parent_id == spans["client"].span_id
    for part in ("decode", "queue", "run", "encode"):
        assert spans[part].parent_id == service.span_id
    assert service.attributes["batchproof.model.name"] == "penguins"
    assert service.attributes["http.response.status_code"] == 200


def _whole(experiment: str) -> Any:
    """Return the trace once each part is there."""
    for trace in mlflow.search_traces(locations=[experiment], return_type="list"):
        if {"client", "encode"} <= {span.name for span in trace.data.spans}:
            return trace
    return None
