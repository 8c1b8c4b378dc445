"""Broken gRPC messages: a call is read or refused with a ServiceError, whatever its bytes are."""

from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from batchproof.service.bundle import reader as bundle
from batchproof.service.errors import ServiceError
from batchproof.service.protocols.oip.tensors import DATATYPES
from batchproof.service.server.grpc.messages import classes
from batchproof.service.server.grpc.tensors import CONTENTS, Tensors
from tests.bundles import INPUTS, make_bundle

MESSAGES = classes()
NAMES = st.sampled_from([*[feature["name"] for feature in INPUTS], "features", "other"])
TENSOR = st.tuples(
    NAMES,
    st.sampled_from([*DATATYPES, "FP128"]),
    st.lists(st.integers(-2, 3), max_size=3),
    st.sampled_from(sorted(set(CONTENTS.values()))),
    st.integers(0, 3),
)


@pytest.fixture(scope="module")
def tensors(tmp_path_factory: pytest.TempPathFactory) -> Tensors:
    """Return the reader of a model with every kind of feature."""
    folder: Path = make_bundle(tmp_path_factory.mktemp("models"))
    return Tensors(bundle.read(folder).manifest, MESSAGES, 100)


def follow(tensors: Tensors, request: Any) -> None:
    try:
        _, rows, asked = tensors.read(request)
    except ServiceError as error:
        refused = error.status
    else:
        assert asked.outputs
        assert rows >= 0
        refused = 400
    assert refused in (400, 501)


@given(
    inputs=st.lists(TENSOR, max_size=8),
    raw=st.lists(st.binary(max_size=24), max_size=8),
    wanted=st.lists(st.sampled_from(["label", "probabilities", "value"]), max_size=2),
)
@settings(deadline=None, max_examples=800)
def test_any_call_is_read_or_refused(
    tensors: Tensors, inputs: list[tuple[str, str, list[int], str, int]], raw: list[bytes], wanted: list[str]
) -> None:
    """Names, datatypes, shapes and contents that do not fit each other are refused in a sentence."""
    request = MESSAGES["ModelInferRequest"](model_name="flowers", raw_input_contents=raw)
    for name, datatype, shape, field, count in inputs:
        one = request.inputs.add(name=name, datatype=datatype, shape=shape)
        getattr(one.contents, field).extend([b"\xff" if field == "bytes_contents" else 1] * count)
    for name in wanted:
        request.outputs.add(name=name)
    follow(tensors, request)


@given(body=st.binary(max_size=200))
@settings(deadline=None, max_examples=800)
def test_any_bytes_are_read_or_refused(tensors: Tensors, body: bytes) -> None:
    """Bytes that protobuf takes as a call are read or refused."""
    try:
        request = MESSAGES["ModelInferRequest"].FromString(body)
    except DecodeError:
        return
    follow(tensors, request)
