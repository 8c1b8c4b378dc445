"""Infer answers: outputs as JSON and as bytes, labels of every kind, compression."""

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchproof.service.bundle import reader as bundle
from batchproof.service.bundle.manifest import Manifest
from batchproof.service.features.decoder import labels_of
from batchproof.service.protocols.interface import Call, Headers
from batchproof.service.protocols.oip.request import Wanted
from batchproof.service.protocols.oip.response import ResponseWriter
from tests.bundles import NUMBERS, make_bundle

PROBABILITIES = np.array([[0.25, 0.5, 0.25], [0.7, 0.1, 0.2]], np.float32)
OUTPUTS = {"probabilities": PROBABILITIES, "scores": np.log(PROBABILITIES)}
BOTH = [("label", False), ("probabilities", False)]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Return the manifest of a model of three classes."""
    return bundle.read(make_bundle(tmp_path_factory.mktemp("models"), inputs=NUMBERS)).manifest


def with_classes(manifest: Manifest, classes: tuple[Any, ...]) -> Manifest:
    """Return the manifest with other classes."""
    return manifest.model_copy(update={"signature": manifest.signature.model_copy(update={"classes": classes})})


def write(manifest: Manifest, wanted: Wanted, *headers: tuple[bytes, bytes]) -> tuple[Headers, bytes]:
    """Return headers and body of an answer."""
    answer = ResponseWriter(manifest).write(Call(b"", headers, "own"), wanted, OUTPUTS)
    assert answer.status == 200
    return answer.headers, answer.body


def test_json_outputs(manifest: Manifest) -> None:
    """Each output has its name, datatype, whole shape and flat data; float32 comes back exactly."""
    headers, body = write(manifest, Wanted("7", BOTH))
    found = json.loads(body)
    assert (found["model_name"], found["model_version"], found["id"]) == ("flowers", "1", "7")
    label, probabilities = found["outputs"]
    assert label == {"name": "label", "datatype": "BYTES", "shape": [2, 1], "data": ["green", "red"]}
    assert (probabilities["datatype"], probabilities["shape"]) == ("FP32", [2, 3])
    assert np.array(probabilities["data"], np.float32).tobytes() == PROBABILITIES.tobytes()
    assert dict(headers) == {b"content-type": b"application/json", b"x-request-id": b"own"}


@pytest.mark.parametrize(
    "classes, datatype, data, raw",
    [
        (("a", "é", "c"), "BYTES", ["é", "a"], b"\x02\x00\x00\x00\xc3\xa9\x01\x00\x00\x00a"),
        ((7, -1, 0), "INT64", [-1, 7], np.array([-1, 7], "<i8").tobytes()),
        ((1, "b", True), "BYTES", ["b", "1"], b"\x01\x00\x00\x00b\x01\x00\x00\x001"),
        ((2**63, 1, 2), "BYTES", ["1", str(2**63)], b"\x01\x00\x00\x001\x13\x00\x00\x009223372036854775808"),
    ],
)
def test_labels(manifest: Manifest, classes: tuple[Any, ...], datatype: str, data: list[Any], raw: bytes) -> None:
    """Labels are whole numbers where all are, else texts; their bytes say the same."""
    made = with_classes(manifest, classes)
    plain = json.loads(write(made, Wanted(None, [("label", False)]))[1])["outputs"][0]
    assert (plain["datatype"], plain["data"]) == (datatype, data)
    headers, body = write(made, Wanted(None, [("label", True)]))
    size = int(dict(headers)[b"inference-header-content-length"])
    assert json.loads(body[:size])["outputs"][0]["parameters"] == {"binary_data_size": len(raw)}
    assert body[size:] == raw


def test_boolean_labels() -> None:
    """Two booleans are a BOOL output."""
    assert labels_of((False, True)) == ("BOOL", (False, True))


def test_mixed_outputs(manifest: Manifest) -> None:
    """JSON and binary outputs stand in one answer in the order that was asked for, tensors behind the JSON."""
    headers, body = write(manifest, Wanted(None, [("probabilities", True), ("label", False)]))
    size = int(dict(headers)[b"inference-header-content-length"])
    first, second = json.loads(body[:size])["outputs"]
    assert (first["name"], first["parameters"], "data" in first) == ("probabilities", {"binary_data_size": 24}, False)
    assert (second["name"], second["data"]) == ("label", ["green", "red"])
    assert body[size:] == PROBABILITIES.tobytes()
    assert dict(headers)[b"content-type"] == b"application/octet-stream"


@pytest.mark.parametrize("encoding, unpack", [(b"gzip", gzip.decompress), (b"deflate", zlib.decompress)])
def test_long_answers_are_compressed_where_that_is_asked(manifest: Manifest, encoding: bytes, unpack: Any) -> None:
    """A long answer is in the encoding that was asked for, and the stated length is that of the JSON before it."""
    outputs = {"probabilities": np.tile(PROBABILITIES, (200, 1))}
    call = Call(b"", [(b"accept-encoding", encoding)], "own")
    wanted = Wanted(None, [("probabilities", True)])
    answer = ResponseWriter(manifest).write(call, wanted, outputs)
    plain = ResponseWriter(manifest).write(Call(b"", [], "own"), wanted, outputs)
    assert dict(answer.headers)[b"content-encoding"] == encoding
    assert unpack(answer.body) == plain.body
    length = b"inference-header-content-length"
    assert dict(answer.headers)[length] == dict(plain.headers)[length]
    assert b"content-encoding" not in dict(write(manifest, Wanted(None, BOTH), (b"accept-encoding", encoding))[0])


def test_no_rows(manifest: Manifest) -> None:
    """No row is answered with tensors of no row, in both forms."""
    writer, call = ResponseWriter(manifest), Call(b"", [], "own")
    empty = {"probabilities": np.empty((0, 3), np.float32)}
    found = json.loads(writer.write(call, Wanted(None, BOTH), empty).body)["outputs"]
    assert [(one["shape"], one["data"]) for one in found] == [([0, 1], []), ([0, 3], [])]
    answer = writer.write(call, Wanted(None, [("probabilities", True)]), empty)
    assert b'"shape":[0,3],"parameters":{"binary_data_size":0}' in answer.body


def test_a_regression(tmp_path: Path) -> None:
    """A regression answers `value`, [rows, 1]."""
    made = bundle.read(make_bundle(tmp_path, "price", task="regression", inputs=NUMBERS)).manifest
    answer = ResponseWriter(made).write(
        Call(b"", [], "own"), Wanted(None, [("value", False)]), {"value": np.array([[1.5]], np.float32)}
    )
    assert json.loads(answer.body)["outputs"] == [{"name": "value", "datatype": "FP32", "shape": [1, 1], "data": [1.5]}]
