"""Triton's own gRPC client against a real server; HTTP and gRPC give the same bits."""

import socket
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from tests.bundles import INPUTS
from tests.live import free_port, live
from tests.peers.rows import MATRIX, ROWS, Expected


@pytest.fixture(scope="module")
def address(models: Path) -> Iterator[str]:
    """Return the address of a server that speaks gRPC."""
    port = free_port()
    with live(models, "--grpc-port", str(port)):
        yield f"127.0.0.1:{port}"


@pytest.fixture
def client(address: str) -> Iterator[triton.InferenceServerClient]:
    """Return Triton's client."""
    with triton.InferenceServerClient(address) as made:
        yield made


def matrix_input(values: np.ndarray) -> triton.InferInput:
    made = triton.InferInput("features", list(values.shape), "FP64")
    made.set_data_from_numpy(values)
    return made


def test_health_and_metadata(client: triton.InferenceServerClient) -> None:
    """Live, ready, server and model metadata answer as Triton's client reads them."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("flowers")
    assert client.is_model_ready("flowers", "1")
    assert client.get_server_metadata().name == "batchproof"
    found = client.get_model_metadata("numbers", as_json=True)
    assert found["inputs"] == [{"name": "features", "datatype": "FP64", "shape": ["-1", "5"]}]
    assert [output["name"] for output in found["outputs"]] == ["label", "probabilities"]


@pytest.mark.parametrize("name,output", [("numbers", "probabilities"), ("price", "value")])
def test_raw_tensors_give_the_engines_bits(
    expected: Expected, client: triton.InferenceServerClient, name: str, output: str
) -> None:
    """A matrix as raw bytes is answered by raw bytes, the engine's own."""
    found = client.infer(name, [matrix_input(MATRIX)])

    assert found.as_numpy(output).tobytes() == expected(name, MATRIX.tolist())[output].tobytes()


def test_typed_contents_give_the_engines_bits(expected: Expected, address: str) -> None:
    """One tensor a feature in typed contents, every datatype a feature has, is answered in typed contents."""
    request = service_pb2.ModelInferRequest(model_name="flowers", id="seven")
    request.parameters["missing_text"].string_param = ""
    for place, feature in enumerate(INPUTS):
        values = [row[place] for row in ROWS]
        one = request.inputs.add(name=feature["name"], shape=[len(ROWS), 1])
        if feature["value_type"] in ("string", "date"):
            one.datatype = "BYTES"
            one.contents.bytes_contents.extend((value or "").encode() for value in values)
        elif feature["kind"] == "numeric":
            one.datatype = "FP64"
            one.contents.fp64_contents.extend(np.nan if value is None else float(value) for value in values)
        elif feature["value_type"] == "integer":
            one.datatype = "INT64"
            one.contents.int64_contents.extend(values)
        else:
            one.datatype = "BOOL"
            one.contents.bool_contents.extend(bool(value) for value in values)
    rows = [[*row[:-1], bool(row[-1])] for row in ROWS]
    with grpc.insecure_channel(address) as channel:
        found = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request)
    label, probabilities = found.outputs
    wanted = expected("flowers", rows)["probabilities"]

    assert (found.id, label.name, probabilities.name) == ("seven", "label", "probabilities")
    assert np.array(probabilities.contents.fp32_contents, np.float32).tobytes() == wanted.tobytes()
    assert list(label.contents.bytes_contents) == [(b"red", b"green", b"blue")[one] for one in wanted.argmax(axis=1)]


@pytest.mark.parametrize(
    "model,version,values,status,words",
    [
        ("number", "", MATRIX, "NOT_FOUND", "Did you mean 'numbers'?"),
        ("numbers", "9", MATRIX, "NOT_FOUND", "version 9"),
        ("numbers", "", MATRIX[:, :4], "INVALID_ARGUMENT", "unexpected shape"),
        ("numbers", "", np.full((1, 5), np.inf), "INVALID_ARGUMENT", "finite"),
        ("numbers", "", np.zeros((100_001, 5)), "INVALID_ARGUMENT", "at most 100000"),
    ],
)
def test_refusals_have_a_status_and_a_sentence(
    client: triton.InferenceServerClient, model: str, version: str, values: np.ndarray, status: str, words: str
) -> None:
    """A refused call ends with the status that clients know and says what is wrong."""
    with pytest.raises(InferenceServerException) as refused:
        client.infer(model, [matrix_input(values)], model_version=version)

    assert refused.value.status() == f"StatusCode.{status}"
    assert words in refused.value.message()


def test_classification_is_refused(client: triton.InferenceServerClient) -> None:
    """What is asked for and not served is refused, never left out in silence."""
    outputs = [triton.InferRequestedOutput("probabilities", class_count=2)]

    with pytest.raises(InferenceServerException, match="classification is not supported"):
        client.infer("numbers", [matrix_input(MATRIX)], outputs=outputs)


def test_a_taken_port_stops_the_start(models: Path) -> None:
    """Where the port is taken the service says so in one sentence and does not start."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        started = live(models, "--grpc-port", str(port))
        with pytest.raises(AssertionError, match=f"Cannot listen on 127.0.0.1 port {port}: Address already in use"):
            started.__enter__()
