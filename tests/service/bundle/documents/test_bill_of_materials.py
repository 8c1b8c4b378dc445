"""A bundle's bill of materials, against the published schema of CycloneDX."""

import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from referencing import Registry, Resource

from batchproof.service.__main__ import main
from tests.bundles import make_bundle

SCHEMAS = files("cyclonedx.schema") / "_res"


def schema(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((SCHEMAS / name).read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft7Validator:
    names = ("bom-1.6.SNAPSHOT.schema.json", "spdx.SNAPSHOT.schema.json", "jsf-0.82.SNAPSHOT.schema.json")
    resources = [(schema(name)["$id"], Resource.from_contents(schema(name))) for name in names]
    return jsonschema.Draft7Validator(schema(names[0]), registry=Registry().with_resources(resources))


def bill(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["bom", str(folder)]) == 0
    content: dict[str, Any] = json.loads(capsys.readouterr().out)
    return content


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_any_bundle_has_a_valid_bill(
    tmp_path: Path, validator: jsonschema.Draft7Validator, capsys: pytest.CaptureFixture[str], task: str
) -> None:
    """The bill of a bundle with the least of provenance is valid CycloneDX, and equal bundles have equal bills."""
    folder = make_bundle(tmp_path, task=task)
    content = bill(folder, capsys)

    validator.validate(content)
    assert bill(folder, capsys) == content


def test_the_bill_names_all_that_went_in(
    penguins_bundle: Path, validator: jsonschema.Draft7Validator, capsys: pytest.CaptureFixture[str]
) -> None:
    """A trained bundle's bill holds each file's digest, the training data's, the metrics, the settings, the libraries."""
    content = bill(penguins_bundle, capsys)
    validator.validate(content)
    model = content["metadata"]["component"]
    digests = {part["name"]: part["hashes"][0]["content"] for part in model["components"]}
    assert digests == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in penguins_bundle.iterdir()
        if path.name != "model.sig"
    }
    provenance = json.loads((penguins_bundle / "bundle.json").read_bytes())["provenance"]
    data, *libraries = content["components"]
    assert data["hashes"] == [{"alg": "SHA-256", "content": provenance["data"]["sha256"]}]
    assert {library["name"]: library["version"] for library in libraries} == provenance["versions"]
    properties = {entry["name"]: entry["value"] for entry in model["properties"]}
    assert json.loads(properties["batchproof:settings"]) == provenance["settings"]
    metrics = {
        entry["type"]: float(entry["value"])
        for entry in model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    }
    assert metrics == json.loads((penguins_bundle / "bundle.json").read_bytes())["metrics"]


def test_a_folder_without_a_bundle_has_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is no bundle is one sentence and exit status 2."""
    assert main(["bom", str(tmp_path)]) == 2
    assert "bundle.json is missing" in capsys.readouterr().err
