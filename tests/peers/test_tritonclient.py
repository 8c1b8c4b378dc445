"""The real clients of the Open Inference Protocol, sync and asyncio, against a real server."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from tests.bundles import INPUTS
from tests.live import Live, live
from tests.peers.rows import MATRIX, ROWS, Expected

MISSING = {"missing_text": ""}  # an empty element means a missing value


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Live]:
    """Return a server for all three."""
    with live(models) as found:
        yield found


@pytest.fixture
def client(server: Live) -> Iterator[triton.InferenceServerClient]:
    """Return Triton's own client."""
    with triton.InferenceServerClient(f"{server.host}:{server.port}") as made:
        yield made


def matrix_input(values: np.ndarray, datatype: str, *, binary: bool) -> triton.InferInput:
    """Return the input `features`."""
    made = triton.InferInput("features", list(values.shape), datatype)
    made.set_data_from_numpy(values, binary_data=binary)
    return made


def column_inputs(*, binary: bool) -> list[triton.InferInput]:
    """Return one tensor a feature for ROWS; only features that have no missing value there go without text."""
    made = []
    for place, feature in enumerate(INPUTS):
        values = [row[place] for row in ROWS]
        datatype, array = column(feature, values)
        one = triton.InferInput(feature["name"], list(array.shape), datatype)
        one.set_data_from_numpy(array, binary_data=binary)
        made.append(one)
    return made


def column(feature: dict[str, Any], values: list[Any]) -> tuple[str, np.ndarray]:
    """Return a feature's datatype and its values [rows, 1], missing ones as the protocol has them."""
    if feature["value_type"] in ("string", "date"):
        return "BYTES", np.array([[value or ""] for value in values], np.object_)
    if feature["kind"] == "numeric":
        return "FP64", np.array([[np.nan if value is None else float(value)] for value in values])
    if feature["value_type"] == "integer":
        return "INT64", np.array([[value] for value in values], np.int64)
    return "BOOL", np.array([[bool(value)] for value in values])


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_a_matrix_gives_the_engines_bits(
    expected: Expected, client: triton.InferenceServerClient, *, binary_in: bool, binary_out: bool | None
) -> None:
    """JSON and binary in both directions, and the default outputs, carry the same bits as the engine alone."""
    outputs = (
        None
        if binary_out is None
        else [triton.InferRequestedOutput(name, binary_data=binary_out) for name in ("label", "probabilities")]
    )
    found = client.infer("numbers", [matrix_input(MATRIX, "FP64", binary=binary_in)], outputs=outputs)
    wanted = expected("numbers", MATRIX.tolist())["probabilities"]
    assert found.as_numpy("probabilities").tobytes() == wanted.tobytes()
    labels = found.as_numpy("label")[:, 0]
    assert [text.decode() if isinstance(text, bytes) else text for text in labels] == [
        ["red", "green", "blue"][winner] for winner in wanted.argmax(axis=1)
    ]


@pytest.mark.parametrize("dtype", ["FP16", "FP32", "FP64", "INT8", "INT64", "UINT16", "BF16"])
def test_every_numeric_datatype_is_taken(expected: Expected, client: triton.InferenceServerClient, dtype: str) -> None:
    """A binary tensor of any numeric datatype is the row of its exact values."""
    exact = np.array([[1.0, 0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0, 1.0]])
    kinds = {"FP16": np.float16, "FP32": np.float32, "FP64": np.float64, "INT8": np.int8, "INT64": np.int64}
    values = exact.astype({**kinds, "UINT16": np.uint16, "BF16": ml_dtypes.bfloat16}[dtype])
    found = client.infer("numbers", [matrix_input(values, dtype, binary=True)])
    assert found.as_numpy("probabilities").tobytes() == expected("numbers", exact.tolist())["probabilities"].tobytes()


@pytest.mark.parametrize("binary", [True, False])
def test_one_tensor_a_feature(expected: Expected, client: triton.InferenceServerClient, *, binary: bool) -> None:
    """Numbers, categories, dates and missing values as tensors of their own give the engine's bits."""
    owned = next(place for place, feature in enumerate(INPUTS) if feature["name"] == "owned")
    rows = [[False if place == owned and value is None else value for place, value in enumerate(row)] for row in ROWS]
    found = client.infer("flowers", column_inputs(binary=binary), parameters=MISSING)
    assert found.as_numpy("probabilities").tobytes() == expected("flowers", rows)["probabilities"].tobytes()


def test_a_regression_answers_a_value(expected: Expected, client: triton.InferenceServerClient) -> None:
    """The one output is `value`, [rows, 1] FP32."""
    found = client.infer("price", [matrix_input(MATRIX, "FP64", binary=True)])
    assert found.as_numpy("value").tobytes() == expected("price", MATRIX.tolist())["value"].tobytes()


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression_both_ways(expected: Expected, client: triton.InferenceServerClient, algorithm: str) -> None:
    """Compressed requests and answers hold the same bits."""
    many = np.tile(MATRIX, (100, 1))
    found = client.infer(
        "numbers",
        [matrix_input(many, "FP64", binary=True)],
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    wanted = expected("numbers", many.tolist())["probabilities"]
    assert found.as_numpy("probabilities").tobytes() == wanted.tobytes()


def test_a_version_an_id_and_a_choice_of_outputs(client: triton.InferenceServerClient) -> None:
    """The version path answers, the id comes back, and only the output that was asked for is there."""
    found = client.infer(
        "numbers",
        [matrix_input(MATRIX, "FP64", binary=True)],
        model_version="1",
        request_id="seven",
        outputs=[triton.InferRequestedOutput("probabilities", binary_data=False)],
        parameters={"anything": "goes"},
    )
    answer = found.get_response()
    assert (answer["id"], answer["model_version"]) == ("seven", "1")
    assert [output["name"] for output in answer["outputs"]] == ["probabilities"]


def test_no_rows_give_no_rows(client: triton.InferenceServerClient) -> None:
    """A tensor of no row is answered with tensors of no row."""
    found = client.infer("numbers", [matrix_input(np.empty((0, 5)), "FP64", binary=True)])
    assert found.as_numpy("probabilities").shape == (0, 3)


def test_what_the_client_asks_besides(client: triton.InferenceServerClient) -> None:
    """Health, metadata, configuration, repository index, statistics and shared memory status answer."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("numbers", "1")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata("numbers")
    assert metadata["inputs"] == [{"name": "features", "datatype": "FP64", "shape": [-1, 5]}]
    assert [output["name"] for output in metadata["outputs"]] == ["label", "probabilities"]
    assert client.get_model_config("numbers", "1")["input"][0]["dims"] == [5]
    index = client.get_model_repository_index()
    assert [(one["name"], one["state"]) for one in index] == [
        (name, "READY") for name in ("flowers", "numbers", "price")
    ]
    statistics = client.get_inference_statistics("numbers")["model_stats"][0]
    assert (statistics["name"], statistics["version"]) == ("numbers", "1")
    assert client.get_system_shared_memory_status() == []
    assert not client.is_model_ready("nobody")


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"model_name": "nobody"}, "unknown model"),
        ({"model_version": "9"}, "version 9 is not found"),
        ({"inputs": [matrix_input(MATRIX[:, :4], "FP64", binary=True)]}, "unexpected shape"),
        ({"inputs": [matrix_input(np.full((1, 5), np.nan), "FP64", binary=True)]}, "row 0, feature 'f0'"),
        ({"outputs": [triton.InferRequestedOutput("nothing")]}, "unexpected inference output"),
        ({"outputs": [triton.InferRequestedOutput("label", class_count=2)]}, "classification"),
    ],
)
def test_refusals_reach_the_client(client: triton.InferenceServerClient, change: dict[str, Any], sentence: str) -> None:
    """Every refusal is an exception with the server's own sentence."""
    request = {"model_name": "numbers", "inputs": [matrix_input(MATRIX, "FP64", binary=True)], **change}
    with pytest.raises(InferenceServerException, match=sentence):
        client.infer(**request)


def test_the_asyncio_client(expected: Expected, server: Live) -> None:
    """Concurrent requests of the asyncio client each get their own rows."""

    async def ask() -> list[np.ndarray]:
        async with triton_aio.InferenceServerClient(f"{server.host}:{server.port}") as made:
            assert await made.is_server_ready()
            asked = [made.infer("numbers", [matrix_input(row[None], "FP64", binary=True)]) for row in MATRIX]
            return [found.as_numpy("probabilities") for found in await asyncio.gather(*asked)]

    together = np.concatenate(asyncio.run(ask()))
    assert together.tobytes() == expected("numbers", MATRIX.tolist())["probabilities"].tobytes()
