"""Infer requests of the Open Inference Protocol: what they mean, and one test for each refusal."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproof.service.bundle import reader as bundle
from batchproof.service.errors import ServiceError
from batchproof.service.features.row_encoder import Encoder
from batchproof.service.protocols.interface import Call, Decoded, Limits
from batchproof.service.protocols.oip.protocol import output_names
from batchproof.service.protocols.oip.request import RequestReader
from tests.bundles import INPUTS, NUMBERS, make_bundle, random_rows, signature_of
from tests.fuzz import binary_tensor, column_tensor, dump, joined

NAMES = [feature["name"] for feature in INPUTS]
ROWS = random_rows(signature_of(), 4, seed=8)
COLUMNS = [column_tensor(feature, [row[place] for row in ROWS]) for place, feature in enumerate(INPUTS)]
VALUES = [[0.1, 2, -3.5, 0, 1], [1e-3, 7, 8, 9, 10]]
MATRIX = {"name": "features", "shape": [2, 5], "datatype": "FP64", "data": VALUES}
RAW = np.array(VALUES).tobytes()


def reader(folder: Path, inputs: list[dict[str, Any]]) -> RequestReader:
    """Return the reader of a model with these features."""
    manifest = bundle.read(make_bundle(folder, inputs=inputs)).manifest
    return RequestReader(manifest, output_names(manifest), Limits(max_rows=10))


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> RequestReader:
    """Return the reader of a model whose rows may be a matrix."""
    return reader(tmp_path_factory.mktemp("numbers"), NUMBERS)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> RequestReader:
    """Return the reader of a model with every kind of feature."""
    return reader(tmp_path_factory.mktemp("mixed"), INPUTS)


def ask(one: RequestReader, content: Any, *headers: tuple[bytes, bytes]) -> Decoded:
    """Read a body, bytes as they are and anything else as JSON."""
    return one.read(Call(content if isinstance(content, bytes) else dump(content), headers, "id"))


def with_length(head: bytes, raw: bytes, length: bytes | None = None) -> Call:
    """Return a binary request."""
    stated = length if length is not None else b"%d" % len(head)
    return Call(head + raw, [(b"inference-header-content-length", stated)], "id")


@pytest.mark.parametrize("data", [VALUES, [*VALUES[0], *VALUES[1]]])
@pytest.mark.parametrize("further", [{}, {"id": "7"}, {"parameters": {"x": [1]}}, {"outputs": [{"name": "label"}]}])
def test_flat_and_nested_are_one_matrix(numbers: RequestReader, data: list[Any], further: dict[str, Any]) -> None:
    """A flat list and rows are the same rows, whatever stands beside."""
    content = {"inputs": [{**MATRIX, "data": data}], **further}
    assert numbers._fast is not None
    assert numbers._fast.read(dump(content)) is not None or "parameters" in further, "plain bodies are read fast"
    found = ask(numbers, content)
    assert np.array_equal(found.arrays.numeric, VALUES)
    assert found.rows == 2


NUMBER = st.one_of(
    st.floats(width=64).map(json.dumps),
    st.integers().map(str),
    st.sampled_from(["1e40", "-1e39", "1e300", "1e400", "01", "null", "true", "[]"]),
)


@given(
    st.lists(st.lists(NUMBER, min_size=5, max_size=5), max_size=3),
    st.sampled_from(["FP32", "FP64", "INT64"]),
    st.sampled_from(["flat", "nested"]),
    st.sampled_from(
        ["", ',"id":"["', ',"outputs":[]', ',"outputs":null', ',"outputs":[{"name":"label"}]', ',"id":"a","id":"b"']
    ),
)
def test_the_fast_reading_is_the_precise_one(
    numbers: RequestReader, rows: list[list[str]], datatype: str, form: str, beside: str
) -> None:
    """What the fast reader takes, the precise one takes with the same bits and the same wishes."""
    inner = [",".join(row) for row in rows]
    data = f"[{','.join(inner)}]" if form == "flat" else "[" + ",".join(f"[{row}]" for row in inner) + "]"
    tensor = f'{{"name":"features","shape":[{len(rows)},5],"datatype":"{datatype}","data":{data}}}'
    body = f'{{"inputs":[{tensor}]{beside}}}'.encode()
    assert numbers._fast is not None
    if numbers._fast.read(body) is not None:
        fast = ask(numbers, body)
        precise = ask(numbers, body, (b"inference-header-content-length", b"%d" % len(body)))
        assert fast.arrays.numeric is not None
        assert precise.arrays.numeric is not None
        assert fast.arrays.numeric.tobytes() == precise.arrays.numeric.tobytes()
        assert (fast.rows, fast.note) == (precise.rows, precise.note)


@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs":[{"name":"features","shape":[2,5],"datatype":"FP64","data":[[1,2,3,4,5,6],[7,8,9,10]]}]}',
        b'{"inputs":[{"name":"features","shape":[2,5],"datatype":"FP64","data":[[1,2,3,4,5,6,7,8,9,10],[]]}]}',
        b'{"inputs":[{"name":"features","shape":[1,5],"datatype":"FP64","data":[1,2,3,4,[5]]}],"outputs":null}',
        b'{"inputs":[{"name":"features","shape":[1,5],"datatype":"FP64","data":[[1,2,3,[4,5]]]}]}',
        b'{"inputs":[{"name":"features","shape":[2,5],"datatype":"FP64","data":[1,2,3,4,5]}]}',
    ],
)
def test_wrong_nesting_reaches_no_reader(numbers: RequestReader, body: bytes) -> None:
    """Numbers that are as many as they should be, but wrongly nested, are refused by both readers."""
    with pytest.raises(ServiceError, match="Shape does not match"):
        ask(numbers, body)


TENSOR = '"name":"features","shape":[1,5],"datatype":"FP64"'


@pytest.mark.parametrize(
    "key, body",
    [
        ("id", f'{{"id":"a","id":"b","inputs":[{{{TENSOR},"data":[1,2,3,4,5]}}]}}'),
        ("inputs", f'{{"inputs":[],"inputs":[{{{TENSOR},"data":[1,2,3,4,5]}}]}}'),
        ("inputs", f'{{"\\u0069nputs":[],"inputs":[{{{TENSOR},"data":[1,2,3,4,5]}}]}}'),
        ("data", f'{{"inputs":[{{{TENSOR},"data":[1,2,3,4,5],"data":[5,4,3,2,1]}}]}}'),
        ("shape", f'{{"inputs":[{{"shape":[1,5],{TENSOR},"data":[1,2,3,4,5]}}]}}'),
        ("x", f'{{"inputs":[{{{TENSOR},"data":[1,2,3,4,5]}}],"parameters":{{"x":1,"x":2}}}}'),
        ("x", f'{{"inputs":[{{{TENSOR},"data":[1,2,3,4,5]}}],"parameters":{{"y":{{"x":1,"x":2}}}}}}'),
        ("x", f'{{"inputs":[{{{TENSOR},"data":[1,2,3,4,5],"parameters":{{"x":1,"x":2}}}}]}}'),
        ("name", f'{{"inputs":[{{{TENSOR},"data":[1,2,3,4,5]}}],"outputs":[{{"name":"label","name":"label"}}]}}'),
        ("id", f'{{"inputs":[{{{TENSOR},"data":[NaN,2,3,4,5]}}],"id":"a","id":"b"}}'),
    ],
)
def test_repeated_keys_are_refused(numbers: RequestReader, key: str, body: str) -> None:
    """Of two equal keys neither is taken: the key is named, whichever reader the body would go to."""
    for length in [(), ((b"inference-header-content-length", b"%d" % len(body)),)]:
        with pytest.raises(ServiceError, match=f"The key '{key}' is given twice in one object") as caught:
            ask(numbers, body.encode(), *length)
        assert (caught.value.status, caught.value.code) == (422, "invalid_request")


def test_repeated_keys_cannot_hide_in_depth(numbers: RequestReader) -> None:
    """A body that is nested deep is refused for its repeated keys, or for its depth where Python cannot look there."""
    deep = "[" * 1000 + "]" * 1000
    body = f'{{"inputs":[{{{TENSOR},"data":[1,2,3,4,5]}}],"parameters":{{"x":{deep}}},"id":"a","id":"b"}}'
    with pytest.raises(ServiceError, match=r"nested too deep|given twice"):
        ask(numbers, body.encode())


def test_colons_in_texts_are_no_keys(numbers: RequestReader, mixed: RequestReader) -> None:
    """Texts with colons, in an id, a parameter and a BYTES element, are read."""
    further = {"id": "a:b", "parameters": {"x": {"a:b": ":"}}, "outputs": [{"name": "label"}]}
    assert ask(numbers, {"inputs": [MATRIX], **further}).note.id == "a:b"
    tensors = [{**one, "data": [":"] * 4} if one["name"] == "island" else one for one in COLUMNS]
    assert ask(mixed, {"inputs": tensors}).rows == len(ROWS)


def test_columns_are_the_encoders_rows(mixed: RequestReader) -> None:
    """One tensor a feature, JSON, binary and both mixed, gives the arrays that JSON rows give."""
    wanted = Encoder(signature_of()).encode_rows(
        [
            [False if (name, value) == ("owned", None) else value for name, value in zip(NAMES, row, strict=True)]
            for row in ROWS
        ]
    )
    tensors = [
        {**one, "data": [False if v is None else v for v in one["data"]]} if one["name"] == "owned" else one
        for one in COLUMNS
    ]
    numeric = [tensor for tensor in tensors if tensor["name"] not in ("length_mm", "adult")]
    spread = [binary_tensor(tensor) for tensor in numeric]
    plain = [tensor for tensor in tensors if tensor["name"] in ("length_mm", "adult")]
    head = dump({"inputs": [*plain, *[described for described, _ in spread]]})
    asked = [
        ask(mixed, {"inputs": tensors}),
        ask(mixed, {"inputs": tensors[::-1]}),
        mixed.read(with_length(head, b"".join(raw for _, raw in spread))),
    ]
    for found in asked:
        for array, right in zip(found.arrays, wanted.arrays, strict=True):
            assert array is not None
            assert right is not None
            assert array.tobytes() == right.tobytes()


def test_a_shape_without_the_second_axis(mixed: RequestReader) -> None:
    """A feature's tensor may be [rows] as well as [rows, 1]."""
    found = ask(mixed, {"inputs": [{**one, "shape": [len(ROWS)]} for one in COLUMNS]})
    assert found.rows == len(ROWS)


def test_raw_binary(numbers: RequestReader) -> None:
    """A length of 0 says that the body is one row of the matrix; every output is wanted as binary."""
    found = numbers.read(with_length(b"", RAW[:40], b"0"))
    assert np.array_equal(found.arrays.numeric, VALUES[:1])
    assert found.note.outputs == [("label", True), ("probabilities", True)]


def test_bare_nan_is_a_missing_value(numbers: RequestReader) -> None:
    """NaN tokens, which clients of this protocol write, are read; null means the same."""
    rows = [[1, 2, 3, float("nan"), None]]
    found = ask(numbers, {"inputs": [{**MATRIX, "shape": [1, 5], "data": rows}]})
    assert np.array_equal(found.arrays.numeric, [[1, 2, 3, np.nan, np.nan]], equal_nan=True)


def test_no_rows(numbers: RequestReader) -> None:
    """A matrix of no row is a request of no row."""
    assert ask(numbers, {"inputs": [{**MATRIX, "shape": [0, 5], "data": []}]}).rows == 0


@pytest.mark.parametrize(
    "further, outputs",
    [
        ({}, [("label", False), ("probabilities", False)]),
        ({"outputs": []}, [("label", False), ("probabilities", False)]),
        ({"parameters": {"binary_data_output": True}}, [("label", True), ("probabilities", True)]),
        ({"outputs": [{"name": "probabilities"}]}, [("probabilities", False)]),
        (
            {
                "parameters": {"binary_data_output": True, "sequence_id": 3, "timeout": 5, "any": "thing"},
                "outputs": [{"name": "label", "parameters": {"binary_data": False}}, {"name": "probabilities"}],
            },
            [("label", False), ("probabilities", True)],
        ),
    ],
)
def test_which_outputs_and_how(numbers: RequestReader, further: dict[str, Any], outputs: list[Any]) -> None:
    """An output's own wish goes before the request's; without any, all outputs are JSON; other parameters pass."""
    assert list(ask(numbers, {"inputs": [MATRIX], **further}).note.outputs) == outputs


@pytest.mark.parametrize(
    "content, sentence",
    [
        (b"", "the body is empty"),
        (b"{", "not JSON"),
        (b'{"inputs":[NaN', "not JSON"),
        (b'{"id":"\\ud800","inputs":[NaN]}', "not JSON"),
        (b'{"inputs":[NaN]}'.decode().encode("utf-16"), "not JSON"),
        (b'{"x":NaN,"inputs":' + b"[" * 100_000, "not JSON"),
        ([1], "must be a JSON object"),
        ({}, "Unable to parse 'inputs'"),
        ({"inputs": {}}, "Unable to parse 'inputs'"),
        ({"inputs": [1]}, "Unable to parse 'inputs'"),
        ({"inputs": []}, "expected 5 inputs but got 0"),
        ({"inputs": [{**MATRIX, "name": None}]}, "every input needs a 'name'"),
        ({"inputs": [{**MATRIX, "name": "featurs"}]}, "unexpected inference input 'featurs'"),
        ({"inputs": [{**MATRIX, "name": "ff0"}]}, "Did you mean 'f0'"),
        ({"inputs": [MATRIX, MATRIX]}, "given twice"),
        ({"inputs": [MATRIX, {"name": "f0", "shape": [1], "datatype": "FP64", "data": [1]}]}, "not both"),
        ({"inputs": [{"name": "f0", "shape": [1], "datatype": "FP64", "data": [1]}]}, "Missing required input"),
        (
            {"inputs": [{**MATRIX, "datatype": "BYTES", "data": ["a"] * 10}]},
            "data-type is 'BYTES', model expects 'FP64'",
        ),
        ({"inputs": [{**MATRIX, "datatype": "BOOL", "data": [True] * 10}]}, "data-type is 'BOOL'"),
        ({"inputs": [{**MATRIX, "datatype": "FP8"}]}, "unknown datatype"),
        ({"inputs": [{**MATRIX, "shape": [5, 2], "data": [1] * 10}]}, r"Expected \[-1,5\], got \[5,2\]"),
        ({"inputs": [{**MATRIX, "shape": [10], "data": [1] * 10}]}, "unexpected shape"),
        ({"inputs": [{**MATRIX, "shape": [2, 4]}]}, "Shape does not match"),
        ({"inputs": [{**MATRIX, "shape": [True, 5]}]}, "Unable to parse 'shape'"),
        ({"inputs": [{**MATRIX, "data": [[1, 2, 3, 4, 5], [1, 2, None, 4, 5]]}]}, "row 1, feature 'f2'"),
        ({"inputs": [{**MATRIX, "data": [float("inf")] * 10}]}, "row 0, feature 'f0'"),
        ({"inputs": [{**MATRIX, "datatype": "FP32", "data": [1e39] * 10}]}, "finite"),
        ({"inputs": [{**MATRIX, "shape": [11, 5], "data": [0] * 55}]}, "11 rows; at most 10"),
        ({"inputs": [{**MATRIX, "parameters": 1}]}, "Unable to parse 'parameters' of input"),
        ({"inputs": [{**MATRIX, "parameters": {"shared_memory_region": "a"}}]}, "shared memory is not served"),
        ({"inputs": [{**MATRIX, "parameters": {"binary_data_size": 80}}]}, "'data' must be absent"),
        ({"inputs": [MATRIX], "parameters": []}, "Unable to parse 'parameters' of the request"),
        ({"inputs": [MATRIX], "parameters": {"triton_x": 1}}, "starting with 'triton_' are reserved"),
        ({"inputs": [MATRIX], "id": 7}, "'id' must be a string"),
        ({"inputs": [MATRIX], "outputs": {}}, "Unable to parse 'outputs'"),
        ({"inputs": [MATRIX], "outputs": ["label"]}, "Unable to parse 'outputs'"),
        ({"inputs": [MATRIX], "outputs": [{"name": "none"}]}, "unexpected inference output 'none'"),
        ({"inputs": [MATRIX], "outputs": [{}]}, "unexpected inference output None"),
        ({"inputs": [MATRIX], "outputs": [{"name": "label"}] * 2}, "asked for twice"),
        ({"inputs": [MATRIX], "outputs": [{"name": "label", "parameters": {"classification": 2}}]}, "classification"),
    ],
)
def test_refusals_of_json(numbers: RequestReader, content: Any, sentence: str) -> None:
    """Each fault of the JSON has its own sentence, and status 400."""
    with pytest.raises(ServiceError, match=sentence) as caught:
        ask(numbers, content)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"shape": [3]}, r"Expected \[4,1\], got \[3\]"),
        ({"shape": [4, 1], "datatype": "INT64"}, "data-type is 'INT64', model expects 'BYTES' for 'island'"),
        ({"shape": [2, 2]}, "unexpected shape"),
    ],
)
def test_refusals_of_columns(mixed: RequestReader, change: dict[str, Any], sentence: str) -> None:
    """A feature's tensor has a row for each row, and texts where the feature has texts."""
    size = int(np.prod(change["shape"]))
    data = [1] * size if "datatype" in change else ["Oslo"] * size
    tensors = [{**one, **change, "data": data} if one["name"] == "island" else one for one in COLUMNS]
    with pytest.raises(ServiceError, match=sentence):
        ask(mixed, {"inputs": tensors})


def test_a_mixed_model_takes_no_matrix(mixed: RequestReader) -> None:
    """Where not all features are numbers, `features` is an unknown input and raw binary data has no meaning."""
    with pytest.raises(ServiceError, match="unexpected inference input 'features'"):
        ask(mixed, {"inputs": [MATRIX]})
    with pytest.raises(ServiceError, match="raw binary data needs a model with one input"):
        mixed.read(with_length(b"", RAW, b"0"))


HEAD = dump(
    {"inputs": [{"name": "features", "shape": [2, 5], "datatype": "FP64", "parameters": {"binary_data_size": 80}}]}
)


@pytest.mark.parametrize(
    "call, sentence",
    [
        (with_length(HEAD, RAW[:-8]), "expecting 8 additional bytes for model"),
        (with_length(HEAD, RAW + b"x"), "unexpected additional input data for model .* 1 bytes"),
        (with_length(HEAD, RAW, b"x"), "Unable to parse Inference-Header-Content-Length, got: x"),
        (with_length(HEAD, RAW, b"--5"), "Unable to parse Inference-Header-Content-Length"),
        (with_length(HEAD, RAW, "²".encode("latin-1")), "Unable to parse Inference-Header-Content-Length"),
        (with_length(HEAD, RAW, b""), "Unable to parse Inference-Header-Content-Length"),
        (with_length(HEAD, RAW, b"-1"), r"should be in range \(0, \d+\), got: -1"),
        (with_length(HEAD, RAW, b"9999"), r"should be in range \(0, \d+\), got: 9999"),
        (with_length(HEAD, RAW, b"9" * 30), "Unable to parse Inference-Header-Content-Length"),
        (with_length(HEAD, RAW, b"10"), "not JSON"),
        (with_length(b"", RAW, b"0"), "expecting 40 bytes but got 80"),
        (Call(HEAD + RAW, [], "id"), "not JSON"),
        (Call(HEAD, [], "id"), "expecting 80 additional bytes"),
        (with_length(HEAD.replace(b"80", b"79"), RAW), "expecting 80 bytes but got 79"),
        (with_length(HEAD.replace(b":80", b":-8"), RAW), "binary_data_size must be a size"),
        (with_length(HEAD.replace(b":80", b":true"), RAW), "binary_data_size must be a size"),
    ],
)
def test_refusals_of_binary(numbers: RequestReader, call: Call, sentence: str) -> None:
    """Each fault of lengths and sizes has the sentence that Triton's clients know."""
    with pytest.raises(ServiceError, match=sentence):
        numbers.read(call)


def test_a_binary_request_is_read(numbers: RequestReader) -> None:
    """The same request, whole, is taken: the refusals above are not of something else."""
    assert np.array_equal(numbers.read(with_length(HEAD, RAW)).arrays.numeric, VALUES)
    described = {name: value for name, value in MATRIX.items() if name != "data"}
    request = joined([(described | {"parameters": {"binary_data_size": 80}}, RAW)])
    assert numbers.read(Call(request.body, request.headers, "id")).rows == 2
