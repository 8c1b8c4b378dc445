"""The rule that no caller keeps the event loop for long: what is large is neither read nor written in the worker's process.

How long others wait is measured by `python -m bench.loop_pause`; here is what makes it short. The bounds are lowered, so
that bodies of some 100 kB are large.
"""

import copy
import gzip
import http.client
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import grpc
import numpy as np
import pytest

from batchproof.service.configuration.settings import Settings
from batchproof.service.protocols.cloud import npy
from batchproof.service.protocols.interface import Answer, Call, Decoded
from batchproof.service.server.grpc import inference
from batchproof.service.server.serving import endpoint
from batchproof.service.server.serving.codecs import large_requests, remote_codec
from tests.bundles import NUMBERS, make_bundle, random_rows, signature_of
from tests.inside import Inside, serving
from tests.large_bodies import RPC, Kinds, LargeBody
from tests.live import free_port

SIGNATURE = signature_of(inputs=NUMBERS)
KINDS = Kinds(
    "numbers",
    [feature.name for feature in SIGNATURE.inputs],
    lambda count: [[0.5 if value is None else value for value in row] for row in random_rows(SIGNATURE, count, 5)],
    rows=5000,
    size=200_000,
)
BODIES = [*KINDS.good(), *KINDS.numeric(), *KINDS.bad()]
LARGE_BYTES = 1 << 15  # of a good body; of others 16384
LARGE_NUMBERS = 1 << 10
MOST_REFUSED_BYTES = 1 << 16


class Seen(NamedTuple):
    """What codecs did in the service's own process."""

    decoded: list[int]  # bytes of bodies
    encoded: list[int]  # numbers of outputs


class Spy:
    """A codec that notes how much it reads and writes here."""

    def __init__(self, codec: Any, seen: Seen) -> None:
        """Stand for `codec`."""
        self._codec = codec
        self._seen = seen

    def decode(self, call: Call) -> Decoded:
        """Note a body."""
        self._seen.decoded.append(len(call.body))
        return self._codec.decode(call)  # type: ignore[no-any-return]

    def decode_good(self, call: Call) -> Decoded | None:
        """Note a body."""
        self._seen.decoded.append(len(call.body))
        return self._codec.decode_good(call)  # type: ignore[no-any-return]

    def encode(self, call: Call, decoded: Decoded, outputs: Mapping[str, Any]) -> Answer:
        """Note an answer."""
        self._seen.encoded.append(sum(values.size for values in outputs.values()))
        return self._codec.encode(call, decoded, outputs)  # type: ignore[no-any-return]

    def read(self, message: Any) -> Decoded:
        """Note a message that was parsed here."""
        self._seen.decoded.append(message.ByteSize())
        return self._codec.read(message)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Inside, Seen]]:
    """Serve a model of numbers with low bounds, and note what its codecs do."""
    models, seen = tmp_path_factory.mktemp("models"), Seen([], [])
    make_bundle(models, "numbers", inputs=NUMBERS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(endpoint, "GOOD_BYTES", 1 << 14)
        patch.setattr(large_requests, "GOOD_BYTES", 1 << 14)
        patch.setattr(large_requests, "THREAD_BYTES", LARGE_BYTES)
        patch.setattr(endpoint, "SMALL_ROWS", 100)
        patch.setattr(remote_codec, "THREAD_NUMBERS", LARGE_NUMBERS)
        patch.setattr(inference, "QUICK_BYTES", LARGE_BYTES)
        patch.setattr(inference, "PARSED_BYTES", LARGE_BYTES)
        patch.setattr(
            inference.InferService, "_codecs_of", lambda service, deployment: spied(service, deployment, seen)
        )
        settings = Settings(models=str(models), port=0, workers=1, grpc_port=free_port(), timeout_s=120.0)
        with serving(settings) as inside:
            for found in inside.app.routes.endpoints.values():
                found._codec = found._large._codec = Spy(found._codec, seen)
                found._decode_good = found._large._decode_good = found._codec.decode_good
            yield inside, seen


CODECS_OF = inference.InferService._codecs_of


def spied(service: Any, deployment: Any, seen: Seen) -> Any:
    """Return the codecs of gRPC, of which the one in this process notes what it does."""
    codecs = CODECS_OF(service, deployment)
    return codecs._replace(here=Spy(codecs.here, seen))


def send(server: Inside, body: LargeBody, data: bytes, **headers: str) -> tuple[int, bytes]:
    """Return an answer's status, of gRPC 200 or 400, and its body."""
    if body.path == RPC:
        with grpc.insecure_channel(f"127.0.0.1:{server.app.settings.grpc_port}") as channel:
            method = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            try:
                return 200, method(data, timeout=60)
            except grpc.RpcError as error:
                return 400, error.details().encode()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request("POST", body.path, data, {**body.headers, **headers})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    "body", [body for body in BODIES if not body.name.startswith("table")], ids=lambda body: body.name
)
def test_what_is_large_is_read_and_written_elsewhere(server: tuple[Inside, Seen], body: LargeBody) -> None:
    """Neither a large body, good or bad, nor a large answer costs the worker's process more than its bytes."""
    inside, seen = server
    seen.decoded.clear()
    seen.encoded.clear()
    data = body.make()
    assert len(data) > 1 << 14
    status, answer = send(inside, body, data)
    assert (status == 200) == (body.is_good or "on_error" in body.name or body.name == "unknown features")
    assert max(seen.decoded, default=0) <= LARGE_BYTES
    assert max(seen.encoded, default=0) <= LARGE_NUMBERS
    if status != 200:
        assert len(answer) < MOST_REFUSED_BYTES


@pytest.mark.parametrize("is_matrix", [True, False])
def test_numbers_as_bytes_are_read_at_once(
    server: tuple[Inside, Seen], monkeypatch: pytest.MonkeyPatch, *, is_matrix: bool
) -> None:
    """However many they are, NumPy reads them without the interpreter's lock: they go to no other process."""
    monkeypatch.setattr(remote_codec.RemoteCodec, "decode", None)
    rows = np.array(KINDS.rows(), np.float64)
    parts = {"features": rows} if is_matrix else {f.name: rows[:, i] for i, f in enumerate(SIGNATURE.inputs)}
    tensors = [
        {"name": name, "datatype": "FP64", "shape": list(part.shape), "parameters": {"binary_data_size": part.nbytes}}
        for name, part in parts.items()
    ]
    head = json.dumps({"inputs": tensors}).encode()
    data = head + b"".join(part.tobytes() for part in parts.values())
    assert len(data) > LARGE_BYTES
    body = LargeBody("raw", "/v2/models/numbers/infer", lambda: data)
    status, answer = send(server[0], body, data, **{"inference-header-content-length": str(len(head))})
    assert status == 200, answer
    monkeypatch.undo()
    spelt = LargeBody(
        "list",
        body.path,
        lambda: json.dumps(
            {
                "inputs": [
                    {"name": "features", "datatype": "FP64", "shape": list(rows.shape), "data": rows.flatten().tolist()}
                ]
            }
        ).encode(),
    )
    assert json.loads(answer)["outputs"] == json.loads(send(server[0], spelt, spelt.make())[1])["outputs"]
    status, answer = send(server[0], body, data[:-1], **{"inference-header-content-length": str(len(head))})
    assert status == 400
    assert b"expecting 1 additional bytes" in answer


def test_array_files_are_read_at_once(server: tuple[Inside, Seen], monkeypatch: pytest.MonkeyPatch) -> None:
    """A NumPy array of numbers, however large, goes to no other process and gets the predictions of its rows in JSON."""
    rows = np.array(KINDS.rows(), np.float64)
    data = npy.file_of(rows)
    assert len(data) > LARGE_BYTES
    body = LargeBody("npy", "/v1/models/numbers:predict", lambda: data, {"Content-Type": "application/x-npy"})
    spelt = LargeBody("list", body.path, lambda: json.dumps({"instances": rows.tolist()}).encode())
    wanted = send(server[0], spelt, spelt.make())
    monkeypatch.setattr(remote_codec.RemoteCodec, "decode", None)
    found = send(server[0], body, data)
    assert found[0] == wanted[0] == 200
    assert json.loads(found[1])["predictions"] == json.loads(wanted[1])["predictions"]
    status, answer = send(server[0], body, data[:-1])
    assert (status, b"bytes follow its header" in answer) == (400, True)


def test_a_packed_body_goes_the_same_way(server: tuple[Inside, Seen]) -> None:
    """The ASGI application unpacks, in a thread, and hands on what is as large then."""
    inside, seen = server
    seen.decoded.clear()
    body = BODIES[0]
    plain, packed = body.make(), gzip.compress(body.make(), mtime=0)
    status, answer = send(inside, body, packed, **{"content-encoding": "gzip"})
    assert status == 200
    assert json.loads(answer)["predictions"] == json.loads(send(inside, body, plain)[1])["predictions"]
    assert max(seen.decoded, default=0) <= LARGE_BYTES


def test_a_short_request_that_is_heavy_goes_the_same_way(
    server: tuple[Inside, Seen], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Explanations of a few rows make many rows: such a body is short, and yet read elsewhere."""
    from batchproof.service.protocols import options

    inside, seen = server
    seen.encoded.clear()
    rows = KINDS.rows()[:60]
    body = LargeBody("explain", "/models/numbers/predict", lambda: json.dumps({"rows": rows, "explain": True}).encode())
    status, expected = send(inside, body, body.make())
    monkeypatch.setattr(options, "LOOP_NUMBERS", 100)
    heavy, answer = send(inside, body, body.make())
    assert (status, heavy) == (200, 200)
    assert json.loads(answer)["predictions"] == json.loads(expected)["predictions"]
    assert seen.encoded == []


def test_counters_know_large_requests(server: tuple[Inside, Seen]) -> None:
    """Rows that were read elsewhere are counted like others, and so is a refusal by its code."""
    inside, _ = server
    (meter,) = inside.app.meters.values()
    before = copy.deepcopy(meter.tally("native").snapshot())
    send(inside, BODIES[0], BODIES[0].make())
    send(inside, BODIES[0], BODIES[0].make()[:-1])
    after = meter.tally("native").snapshot()
    assert after["ok_rows"] - before["ok_rows"] == 5000
    assert after["refusals"]["broken_json"] - before["refusals"].get("broken_json", 0) == 1
