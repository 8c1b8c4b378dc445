"""What programs read of the service: models, and the OpenAPI document against the validator behind it."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchproof.service.configuration.settings import Settings
from batchproof.service.errors import ServiceError
from batchproof.service.inference.catalogue.repository import Refusal
from batchproof.service.protocols.interface import Call, Limits
from batchproof.service.protocols.native.protocol import FIELDS, NativeCodec
from batchproof.service.server.http.asgi import AsgiApp
from batchproof.service.server.openapi import document as documents
from batchproof.service.server.openapi.native import request_schema
from batchproof.service.server.serving import app
from batchproof.service.server.web.site import make_pages
from tests.bundles import INPUTS, make_bundle


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[app.App]:
    """Load one model of every kind of feature."""
    models = tmp_path_factory.mktemp("models")
    make_bundle(models)
    loaded = app.load(Settings(models=models))
    yield loaded
    loaded.close()


def get(service: app.App, path: str, method: str = "GET", **named: Any) -> httpx.Response:
    """Ask the ASGI application."""

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(AsgiApp(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, **named)

    return asyncio.run(ask())


def test_models_say_everything(service: app.App) -> None:
    """Signature, ranges, metrics, provenance, versions and a row that can be sent back."""
    detail = get(service, "/models/flowers").json()
    assert [feature["name"] for feature in detail["signature"]["inputs"]] == [feature["name"] for feature in INPUTS]
    assert {"metrics", "provenance", "versions", "fingerprint", "verification"} <= set(detail)
    assert get(service, "/models/flowers/versions/1").json() == detail
    assert get(service, "/models").json()["models"][0]["name"] == "flowers"
    assert get(service, "/predict", "POST", json=detail["example"]).status_code == 200


def test_models_lists_what_was_refused(service: app.App, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle that did not load stands beside the models, with the reason."""
    refusal = Refusal("flowers", 2, "model.onnx is damaged")
    monkeypatch.setattr(service, "registry", replace(service.registry, refusals=(refusal,)))
    listed = get(service, "/models").json()

    assert listed["refused"] == [{"name": "flowers", "version": 2, "message": "model.onnx is damaged"}]
    assert [model["name"] for model in listed["models"]] == ["flowers"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/models/flower", 404, "unknown_model"),
        ("GET", "/models/flowers/versions/2", 404, "unknown_version"),
        ("GET", "/models/flowers/versions/x", 404, "unknown_version"),
        ("POST", "/models/flower/predict", 404, "unknown_model"),
        ("POST", "/models/flowers/versions/9/predict", 404, "unknown_version"),
        ("GET", "/nothing", 404, "not_found"),
        ("DELETE", "/models", 405, "method_not_allowed"),
        ("GET", "/predict", 405, "method_not_allowed"),
        ("POST", "/health/live", 405, "method_not_allowed"),
    ],
)
def test_every_refusal_has_the_one_shape(service: app.App, method: str, path: str, status: int, code: str) -> None:
    """Pages, health and predict routes refuse in the same words."""
    answer = get(service, path, method, headers={"X-Request-Id": "mine"})
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert answer.json()["request_id"] == "mine"
    assert (status == 405) == ("allow" in answer.headers)


def test_only_who_asks_for_the_document_waits_for_it(service: app.App, monkeypatch: pytest.MonkeyPatch) -> None:
    """The document, whose making takes longer the more models there are, is made for those who ask, and once."""
    made: list[int] = []

    def openapi(*_: object) -> dict[str, Any]:
        made.append(1)
        return {"paths": {}}

    monkeypatch.setattr(documents, "openapi", openapi)
    pages = make_pages(service)
    assert not made
    given = documents.Document(pages, service)
    assert given.current() is given.current()
    assert made == [1]


def test_the_document_is_complete(service: app.App) -> None:
    """Every native predict path is described, and its examples are answered."""
    document = get(service, "/openapi.json").json()
    for path in ("/predict", "/models/flowers/predict", "/models/flowers/versions/1/predict"):
        operation = document["paths"][path]["post"]
        for example in operation["requestBody"]["content"]["application/json"]["examples"].values():
            answer = get(service, path, "POST", json=example["value"])
            assert answer.status_code == 200
            schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
            jsonschema.validate(answer.json(), {**schema, "components": document["components"]})
    for path in ("/models", "/models/{name}", "/health/live", "/health/ready"):
        assert "get" in document["paths"][path]


NUMBERS = st.one_of(st.integers(-5, 5), st.floats(-1e6, 1e6), st.just(3.0))
VALUES = st.one_of(NUMBERS, st.booleans(), st.none(), st.sampled_from(["Oslo", "x", "", "2020-01-01"]), st.just([]))
USUAL = [
    st.one_of(NUMBERS, st.none()),
    st.sampled_from(["Oslo", "elsewhere", None]),
    NUMBERS,
    st.sampled_from(["2020-01-01", "2020-01-01T10:00:00Z", None]),
    st.one_of(st.booleans(), NUMBERS),
    st.integers(-3, 5),
    st.sampled_from([True, False, None]),
]


@st.composite
def bodies(draw: st.DrawFn) -> Any:
    """Return a body that is right, or wrong in a few places."""

    def row() -> Any:
        values = [draw(USUAL[place] if draw(st.integers(0, 9)) else VALUES) for place in range(len(INPUTS))]
        values = values[: draw(st.sampled_from([len(values)] * 9 + [len(values) - 1]))]
        named = dict(zip([str(feature["name"]) for feature in INPUTS], values, strict=False))
        if draw(st.sampled_from([False] * 9 + [True])):
            named["more"] = 1
        return draw(st.sampled_from([named, values]))

    body: dict[str, Any] = {"rows": [row() for _ in range(draw(st.integers(0, 3)))]}
    if draw(st.sampled_from([False, False, True])):
        names = [str(feature["name"]) for feature in INPUTS]
        wrong = st.sampled_from([names[1:], [*names, "more"], [*names, names[0]], [*names[1:], names[1]], {}, None])
        body["columns"] = draw(st.one_of(st.just(names), wrong))
    if draw(st.booleans()):
        body["on_error"] = draw(st.sampled_from(["request", "request", "no", None]))
    return draw(st.sampled_from([body, body, body, {**body, "row": 1}, [body], {"rows": {}}, {}]))


@settings(max_examples=400, deadline=None)
@given(body=bodies())
def test_schema_and_validator_agree(service: app.App, body: Any) -> None:
    """The OpenAPI schema accepts a body exactly where the predict route does.

    Left out is what no schema can say: which dates exist, and which value stands where in a list that `columns` orders.
    """
    model = service.registry.newest("flowers")
    schema = jsonschema.Draft202012Validator(request_schema(model.manifest))
    text = json.dumps(body)
    refusal = None
    try:
        NativeCodec(model, Limits()).decode(Call(text.encode(), [], "id"))
    except ServiceError as error:
        refusal = error
    is_beyond_schemas = refusal is not None and all(
        "ISO 8601" in one["message"] or ("columns" in body and "expected" in one["message"] and one.get("feature"))
        for one in refusal.details or [{"message": ""}]
    )
    assert is_beyond_schemas or schema.is_valid(body) == (refusal is None), text


@settings(max_examples=100, deadline=None)
@given(order=st.permutations(range(len(INPUTS))))
def test_columns_may_come_in_any_order(service: app.App, order: list[int]) -> None:
    """The schema accepts every order of `columns`, and so does the predict route."""
    model = service.registry.newest("flowers")
    names, row = [feature.name for feature in model.manifest.signature.inputs], model.bundle.golden.rows[0]
    body = {"columns": [names[place] for place in order], "rows": [[row[place] for place in order]]}

    jsonschema.Draft202012Validator(request_schema(model.manifest)).validate(body)
    assert NativeCodec(model, Limits()).decode(Call(json.dumps(body).encode(), [], "id")).rows == 1


def test_every_field_is_explained(service: app.App) -> None:
    """Each field that a predict body may have is in the schema, with its meaning."""
    fields = request_schema(service.registry.newest("flowers").manifest)["properties"]

    assert [name for name, field in fields.items() if not field.get("description")] == []
    assert set(FIELDS) - set(fields) == {"coverage"}, "which this model cannot give"
