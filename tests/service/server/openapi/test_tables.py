"""Tables in the OpenAPI document: all that are taken, with examples that are what the service does."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from batchproof.service.tables.formats import IN_REQUESTS, Format
from batchproof.service.tables.parameters import CHOICES
from tests.bundles import INPUTS, make_bundle
from tests.live import Live, live

ODD = ["c\rd", "a\r\nb", 'say "x"', " a", "a,b"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Serve a model of every kind of feature, and one with a column that answers add."""
    models = tmp_path_factory.mktemp("models")
    make_bundle(models, "flowers")
    make_bundle(
        models, "odd", inputs=[{**one, "categories": ODD} if one["name"] == "island" else one for one in INPUTS]
    )
    make_bundle(models, "taken", inputs=[{**one, "name": one["name"].replace("count", "prediction")} for one in INPUTS])
    with live(models, "--default-model", "flowers") as found:
        yield found


def operation(server: Live, path: str) -> Any:
    return httpx.get(f"{server.url}/openapi.json").json()["paths"][path]["post"]


@pytest.mark.parametrize("found", IN_REQUESTS, ids=lambda one: one.name)
@pytest.mark.parametrize("name,answer", [("flowers", ""), ("odd", ""), ("taken", "?answer=alone")])
def test_examples_are_answered_as_the_document_says(server: Live, found: Format, name: str, answer: str) -> None:
    """Every table type is listed for bodies and answers; a text example gets the example answer, byte for byte."""
    path = f"/models/{name}/predict"
    described = operation(server, path)
    body = described["requestBody"]["content"][found.media_type]
    wanted = described["responses"]["200"]["content"][found.media_type]
    if found.needs_pyarrow:
        assert body["schema"]["format"] == wanted["schema"]["format"] == "binary"
        return
    answered = httpx.post(
        f"{server.url}{path}{answer}", content=body["example"], headers={"content-type": found.media_type}
    )

    assert answered.status_code == 200
    assert answered.text == wanted["example"]


def test_the_parameters_of_tables_are_listed(server: Live) -> None:
    """What a query may say of a table is in the document, with the values that are taken."""
    listed = {one["name"]: one["schema"] for one in operation(server, "/predict")["parameters"] if one["in"] == "query"}

    assert listed.keys() == {*CHOICES, "prefix"}
    assert {name: tuple(listed[name]["enum"]) for name in CHOICES} == CHOICES
