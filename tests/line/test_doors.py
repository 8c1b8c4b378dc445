"""Every door of the service, held to one another: the same rows give the same bits through each of them."""

import asyncio
import csv
import io
import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from pyarrow import ipc, parquet

from batchproof.service.__main__ import main
from batchproof.service.client import AsyncClient, Client
from tests.bundles import INPUTS, make_bundle, random_rows, signature_of
from tests.live import Live, live

ROWS = random_rows(signature_of("multiclass", INPUTS), 300, seed=8)
for row in ROWS:
    row[-1] = bool(row[-1])  # the binary BOOL tensor has no missing value
NAMES = [feature["name"] for feature in INPUTS]
OBJECTS = [dict(zip(NAMES, row, strict=True)) for row in ROWS]
KINDS: dict[str, dict[str, Any]] = {
    "classes": {},
    "two targets": {"task": "regression", "targets": ("height", "weight")},
    "three targets, exact": {"task": "regression", "targets": ("height", "weight", "age"), "arithmetic": "exact"},
}
MISSING = {"missing_text": ""}  # an empty element means a missing value


@dataclass(frozen=True)
class House:
    """A server with both ports, and its models' folder."""

    server: Live
    grpc_address: str
    models: Path
    scratch: Path
    output: str  # whose numbers are compared


@pytest.fixture(scope="module", params=KINDS)
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Serve one model of every kind of feature over HTTP and gRPC: of classes, or of several targets."""
    models, kind = tmp_path_factory.mktemp("models"), KINDS[request.param]
    make_bundle(models, "flowers", **kind)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    platform = {"AIP_PREDICT_ROUTE": "/vertex", "AIP_HEALTH_ROUTE": "/vertex-health"}
    with live(models, "--grpc-port", str(port), environment=platform) as server:
        yield House(
            server,
            f"127.0.0.1:{port}",
            models,
            tmp_path_factory.mktemp("scratch"),
            "value" if kind else "probabilities",
        )


def post(house: House, path: str, body: Any, kind: str = "application/json", accept: str = "*/*") -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": kind, "accept": accept}
    found = httpx.post(house.server.url + path, content=content, headers=headers, timeout=60)
    assert found.status_code == 200, found.text
    return found


def matrix(predictions: list[dict[str, Any]]) -> np.ndarray:
    """Return JSON predictions as probabilities [rows, classes], or values [rows, targets], float32."""
    return np.array([list((one.get("probabilities") or one["values"]).values()) for one in predictions], np.float32)


def columns(named: Any) -> np.ndarray:
    """Return the columns probability_<class> or prediction_<target> as [rows, columns] float32."""
    names = named.column_names if isinstance(named, pa.Table) else list(named.columns)
    kept = [name for name in names if name.startswith(("probability_", "prediction_"))]
    return np.stack([np.asarray(named[name], np.float32) for name in kept], axis=1)


def text_table() -> bytes:
    """Return the rows as CSV, the columns in another order than the signature's."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(reversed(NAMES))
    for one in ROWS:
        cells = [str(value).lower() if isinstance(value, bool) else value for value in one]
        writer.writerow(["" if value is None else value for value in reversed(cells)])
    return text.getvalue().encode()


def arrow_table() -> pa.Table:
    return pa.table({name: [row[place] for row in ROWS] for place, name in enumerate(NAMES)})


def stream_of(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, 64)
    return sink.getvalue()


def parquet_of(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(table, sink)
    return sink.getvalue()


def from_csv(body: bytes) -> np.ndarray:
    return columns(pd.read_csv(io.BytesIO(body), dtype=str))


def tensors(triton: Any) -> list[Any]:
    made = []
    for place, feature in enumerate(INPUTS):
        values = [row[place] for row in ROWS]
        if feature["value_type"] in ("string", "date"):
            datatype, array = "BYTES", np.array([[value or ""] for value in values], np.object_)
        elif feature["kind"] == "numeric":
            datatype, array = "FP64", np.array([[np.nan if value is None else float(value)] for value in values])
        elif feature["value_type"] == "integer":
            datatype, array = "INT64", np.array([[value] for value in values], np.int64)
        else:
            datatype, array = "BOOL", np.array([[bool(value)] for value in values])
        one = triton.InferInput(feature["name"], list(array.shape), datatype)
        one.set_data_from_numpy(array)
        made.append(one)
    return made


def native_alone(house: House) -> np.ndarray:
    answers = [post(house, "/predict", {"rows": [row]}).json()["predictions"] for row in ROWS]
    return matrix([answer[0] for answer in answers])


def native_positional(house: House) -> np.ndarray:
    return matrix(post(house, "/predict", {"rows": ROWS}).json()["predictions"])


def native_named(house: House) -> np.ndarray:
    return matrix(post(house, "/models/flowers/predict", {"rows": OBJECTS}).json()["predictions"])


def native_columns(house: House) -> np.ndarray:
    body = {"rows": [row[::-1] for row in ROWS], "columns": NAMES[::-1]}
    return matrix(post(house, "/models/flowers/versions/1/predict", body).json()["predictions"])


def oip_binary(house: House) -> np.ndarray:
    with triton_http.InferenceServerClient(f"{house.server.host}:{house.server.port}") as client:
        return client.infer("flowers", tensors(triton_http), parameters=MISSING).as_numpy(house.output)


def oip_json(house: House) -> np.ndarray:
    datatypes = [one.datatype() for one in tensors(triton_http)]
    inputs = []
    for place, (name, datatype) in enumerate(zip(NAMES, datatypes, strict=True)):
        data = [int(row[place]) if name == "adult" else row[place] for row in ROWS]
        inputs.append({"name": name, "datatype": datatype, "shape": [len(ROWS)], "data": data})
    outputs = post(house, "/v2/models/flowers/infer", {"inputs": inputs}).json()["outputs"]
    return np.array(outputs[-1]["data"], np.float32).reshape(outputs[-1]["shape"])


def grpc(house: House) -> np.ndarray:
    with triton_grpc.InferenceServerClient(house.grpc_address) as client:
        return client.infer("flowers", tensors(triton_grpc), parameters=MISSING).as_numpy(house.output)


def scoring(path: str, form: str) -> Callable[[House], np.ndarray]:
    return lambda house: matrix(post(house, path, {form: OBJECTS}).json()["predictions"])


def invocations_csv(house: House) -> np.ndarray:
    return matrix(post(house, "/invocations", text_table(), "text/csv").json()["predictions"])


def invocations_array(house: House) -> np.ndarray:
    answer = post(house, "/invocations", {"instances": OBJECTS}, accept="application/x-npy").content
    return np.asarray(np.load(io.BytesIO(answer), allow_pickle=False))


def table_csv(house: House) -> np.ndarray:
    return from_csv(post(house, "/predict", text_table(), "text/csv").content)


def table_lines(house: House) -> np.ndarray:
    body = "\n".join(map(json.dumps, OBJECTS)).encode()
    answer = post(house, "/predict?answer=alone", body, "application/jsonlines").text
    return matrix([json.loads(line) for line in answer.splitlines()])


def table_stream(house: House) -> np.ndarray:
    answer = post(house, "/predict", stream_of(arrow_table()), "application/vnd.apache.arrow.stream").content
    return columns(ipc.open_stream(answer).read_all())


def table_stream_of_polars(house: House) -> np.ndarray:
    body = io.BytesIO()
    pl.from_arrow(arrow_table()).write_ipc_stream(body)
    answer = post(house, "/predict", body.getvalue(), "application/vnd.apache.arrow.stream").content
    return columns(pl.read_ipc_stream(answer))


def table_parquet(house: House) -> np.ndarray:
    answer = post(house, "/predict", parquet_of(arrow_table()), "application/vnd.apache.parquet").content
    return columns(parquet.read_table(io.BytesIO(answer)))


def json_to_table(house: House) -> np.ndarray:
    return from_csv(post(house, "/predict", {"rows": ROWS}, accept="text/csv").content)


def table_to_json(house: House) -> np.ndarray:
    return matrix(post(house, "/predict", text_table(), "text/csv", "application/json").json()["predictions"])


def command(suffix: str) -> Callable[[House], np.ndarray]:
    def through(house: House) -> np.ndarray:
        source, target = house.scratch / "rows.parquet", house.scratch / f"answers{suffix}"
        parquet.write_table(arrow_table(), source)
        assert main(["predict", str(house.models / "flowers"), str(source), str(target), "--part-rows", "100"]) == 0
        if suffix == ".csv":
            return from_csv(target.read_bytes())
        return columns(parquet.read_table(target))

    return through


def client_rows(house: House) -> np.ndarray:
    with Client(house.server.url, "flowers") as client:
        return matrix(client.predict(OBJECTS))


def client_frame(frame: Callable[[pa.Table], Any]) -> Callable[[House], np.ndarray]:
    def through(house: House) -> np.ndarray:
        with Client(house.server.url, "flowers") as client:
            return columns(client.predict(frame(arrow_table())))

    return through


def async_client(house: House) -> np.ndarray:
    async def through() -> Any:
        async with AsyncClient(house.server.url, "flowers") as client:
            return await client.predict(pl.from_arrow(arrow_table()))

    return columns(asyncio.run(through()))


DOORS: dict[str, Callable[[House], np.ndarray]] = {
    "native, one row at a time": native_alone,
    "native, named": native_named,
    "native, columns": native_columns,
    "OIP, JSON": oip_json,
    "OIP, binary": oip_binary,
    "OIP, gRPC": grpc,
    "/invocations, instances": scoring("/invocations", "instances"),
    "/invocations, records": scoring("/invocations", "dataframe_records"),
    "/invocations, CSV": invocations_csv,
    "/invocations, array file": invocations_array,
    "/score": scoring("/score", "input_data"),
    "/v1": scoring("/v1/models/flowers:predict", "instances"),
    "Vertex AI": scoring("/vertex", "instances"),
    "table, CSV": table_csv,
    "table, JSON Lines": table_lines,
    "table, Arrow": table_stream,
    "table, Arrow of polars": table_stream_of_polars,
    "table, Parquet": table_parquet,
    "table, JSON to CSV": json_to_table,
    "table, CSV to JSON": table_to_json,
    "predict, to Parquet in parts": command(".parquet"),
    "predict, to CSV in parts": command(".csv"),
    "client, rows": client_rows,
    "client, pandas": client_frame(lambda table: table.to_pandas()),
    "client, polars": client_frame(pl.from_arrow),
    "async client, polars": async_client,
}


@pytest.fixture(scope="module")
def reference(house: House) -> bytes:
    """Return what the native JSON route answers for rows in signature order, as bits."""
    return native_positional(house).tobytes()


@pytest.mark.parametrize("door", DOORS)
def test_every_door_gives_the_same_bits(house: House, reference: bytes, door: str) -> None:
    """The rows' probabilities, or the values of all targets, have the same bits through this door as in native JSON."""
    assert DOORS[door](house).tobytes() == reference
