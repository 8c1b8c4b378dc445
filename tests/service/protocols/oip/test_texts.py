"""BYTES tensors: what is a missing value, what an empty text, and what `content_type` makes of them."""

import base64
import struct
from pathlib import Path
from typing import Any

import pytest

from batchproof.service.bundle import reader as bundle
from batchproof.service.errors import ServiceError
from batchproof.service.protocols.interface import Call, Decoded, Limits
from batchproof.service.protocols.oip.protocol import output_names
from batchproof.service.protocols.oip.request import RequestReader
from tests.bundles import make_bundle
from tests.fuzz import dump

PLAIN = [
    {"name": "colour", "kind": "categorical", "value_type": "string", "missing": True, "categories": ["red", "blue"]},
    {"name": "day", "kind": "date", "value_type": "date", "missing": True, "range": [0.0, 1e9]},
]
WITH_EMPTY = [{**PLAIN[0], "categories": ["", "red", "blue"]}, PLAIN[1]]
MISSING, UNSEEN = -1, -2  # codes behind the categories


@pytest.fixture(scope="module", params=[PLAIN, WITH_EMPTY], ids=["no-empty-category", "empty-category"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[RequestReader, list[str]]:
    """Return the reader of a model, and its categories."""
    folder: Path = tmp_path_factory.mktemp("model")
    manifest = bundle.read(make_bundle(folder, inputs=request.param)).manifest
    reader = RequestReader(manifest, output_names(manifest), Limits())
    return reader, request.param[0]["categories"]


def ask(
    reader: RequestReader, texts: list[Any], *, binary: bool, of_input: Any = None, of_request: Any = None
) -> Decoded:
    """Read a request with a colour for each row, and days that are there."""
    tensor: dict[str, Any] = {"name": "colour", "datatype": "BYTES", "shape": [len(texts)]}
    day = {"name": "day", "datatype": "BYTES", "shape": [len(texts)], "data": ["2000-01-01"] * len(texts)}
    parameters, raw = dict(of_input or {}), b""
    if binary:
        raw = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts)
        parameters["binary_data_size"] = len(raw)
    else:
        tensor["data"] = texts
    content = {"inputs": [tensor | ({"parameters": parameters} if parameters else {}), day]}
    head = dump(content | ({"parameters": of_request} if of_request else {}))
    headers = [(b"inference-header-content-length", b"%d" % len(head))] if binary else []
    return reader.read(Call(head + raw, headers, "id"))


def codes(found: Decoded, categories: list[str]) -> list[int]:
    """Return each row's category: its place, MISSING or UNSEEN."""
    assert found.arrays.categorical is not None
    behind = {len(categories): MISSING, len(categories) + 1: UNSEEN}
    return [behind.get(code, code) for code in found.arrays.categorical[:, 0].tolist()]


def test_json_has_null(model: tuple[RequestReader, list[str]]) -> None:
    """Null is a missing value and an empty text is a text, a category or not."""
    reader, categories = model
    empty = categories.index("") if "" in categories else UNSEEN
    assert codes(ask(reader, [None, "", "red"], binary=False), categories) == [MISSING, empty, categories.index("red")]


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("missing_text", ["", "NA", "\0"])
def test_a_text_may_stand_for_a_missing_value(
    model: tuple[RequestReader, list[str]], missing_text: str, *, binary: bool
) -> None:
    """`missing_text` is the one element that is missing; every other text, an empty one too, is itself."""
    reader, categories = model
    texts = [missing_text, "red", "NA", ""]
    wanted = [
        MISSING if text == missing_text else categories.index(text) if text in categories else UNSEEN for text in texts
    ]
    found = ask(reader, texts, binary=binary, of_request={"missing_text": missing_text})
    assert codes(found, categories) == wanted


def test_an_ambiguous_element_is_refused(model: tuple[RequestReader, list[str]]) -> None:
    """An empty element of a binary tensor is a category where training saw one, and else refused with what to send."""
    reader, categories = model
    if "" in categories:
        assert codes(ask(reader, ["", "red"], binary=True), categories) == [0, 1]
        return
    with pytest.raises(ServiceError, match=r"input 'colour': element 1 is empty.*parameter 'missing_text'") as refused:
        ask(reader, ["red", ""], binary=True)
    assert refused.value.status == 400


def test_the_parameter_is_a_text(model: tuple[RequestReader, list[str]]) -> None:
    """Anything else is refused."""
    with pytest.raises(ServiceError, match="'missing_text' must be a string"):
        ask(model[0], ["red"], binary=False, of_request={"missing_text": 0})


@pytest.mark.parametrize("binary", [False, True])
def test_base64_is_decoded(model: tuple[RequestReader, list[str]], *, binary: bool) -> None:
    """Elements that are packed as base64 are the texts in it."""
    reader, categories = model
    texts = [base64.b64encode(text.encode()).decode() for text in ("red", "blue", "grün")]
    found = ask(reader, texts, binary=binary, of_input={"content_type": "base64"})
    assert codes(found, categories) == [categories.index("red"), categories.index("blue"), UNSEEN]


@pytest.mark.parametrize(
    ("text", "content_type", "words"),
    [
        ("red!", "base64", "element 0 is not UTF-8 text in base64"),
        ("/w==", "base64", "element 0 is not UTF-8 text in base64"),
        ("red", "image", "content_type 'image' is not supported for BYTES; use str, np, pd, datetime, base64"),
        ("red", ["base64"], "is not supported"),
    ],
)
def test_texts_that_are_packed_otherwise(
    model: tuple[RequestReader, list[str]], text: str, content_type: Any, words: str
) -> None:
    """What cannot be decoded is refused, never read as the text that it stands in."""
    with pytest.raises(ServiceError, match=words):
        ask(model[0], [text], binary=False, of_input={"content_type": content_type})


@pytest.mark.parametrize("content_type", ["str", "np", "pd", "datetime"])
def test_content_types_of_plain_texts(model: tuple[RequestReader, list[str]], content_type: str) -> None:
    """Content types whose elements are the texts themselves change nothing."""
    reader, categories = model
    found = ask(reader, ["red"], binary=False, of_input={"content_type": content_type})
    assert codes(found, categories) == [categories.index("red")]
