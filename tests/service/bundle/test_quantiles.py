"""A bundle's quantiles stand beside the value on every protocol and in every table, each under its level."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import batchproof
from batchproof.service.bundle import reader
from batchproof.service.bundle.manifest import Manifest
from batchproof.service.errors import BundleError
from batchproof.service.features.arrays import Outputs
from batchproof.service.inference.engine import EngineOptions
from batchproof.service.inference.model import Model, load
from batchproof.service.server.openapi.native import prediction_schema
from tests.bundles import INPUTS, Content, make_bundle, random_rows, reseal, signature_of
from tests.ways_out import WAYS, WaysOut

LEVELS = (0.05, 0.5, 0.9)
COLUMNS = ["prediction", "quantile_0.05", "quantile_0.5", "quantile_0.9"]
ROWS = np.array([[1.5, 0.1, 1.25, 3.0], [-2.0, -7.5, -2.5, 0.3]], np.float32)  # the value, then its quantiles
OUTPUTS: Outputs = {"value": ROWS[:, :1], "quantiles": ROWS[:, 1:]}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Return the model of such a bundle."""
    folder = make_bundle(tmp_path_factory.mktemp("models"), task="regression", quantiles=LEVELS)
    return load(reader.read(folder), EngineOptions(device="cpu"), 64)


def named(predictions: list[dict[str, Any]]) -> np.ndarray:
    """Return predictions by name as rows of numbers, and hold the names to the levels."""
    assert [list(one["quantiles"]) for one in predictions] == [["0.05", "0.5", "0.9"]] * len(predictions)
    return np.array([[one["value"], *one["quantiles"].values()] for one in predictions], np.float32)


def ways(model: Model) -> WaysOut:
    """Return the ways out of such a model."""
    known = {
        "signature": {"inputs": [], "target": "colour", "classes": None},
        "quantiles": list(model.manifest.quantiles or ()),
    }
    return WaysOut(model, OUTPUTS, COLUMNS, named, known)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_out_has_the_same_quantiles(model: Model, way: Callable[[WaysOut], np.ndarray]) -> None:
    """Each protocol, each table and the client answer the value and its quantiles with their bits, in the levels' order."""
    assert way(ways(model)).astype(np.float32).tobytes() == ROWS.tobytes()


def test_the_document_describes_them(model: Model) -> None:
    """OpenAPI requires a number for each level."""
    schema = json.dumps(prediction_schema(model.manifest))
    assert '"required": ["0.05", "0.5", "0.9"]' in schema


def test_python_agrees(tmp_path: Path) -> None:
    """A model in the process answers rows, frames and tables with the same quantiles, which never cross."""
    folder = make_bundle(tmp_path, task="regression", quantiles=LEVELS)
    drawn = random_rows(signature_of("regression"), 60, 3)
    rows = [{feature["name"]: row[place] for place, feature in enumerate(INPUTS)} for row in drawn]
    found = named(batchproof.load_model(folder).predict(rows))
    assert (np.diff(found[:, 1:], axis=1) >= 0).all()
    names = ["prediction", "quantile_0.05", "quantile_0.5", "quantile_0.9"]
    frame = batchproof.load_model(folder).predict(pl.DataFrame(rows, infer_schema_length=None))
    assert frame.select(names).to_numpy().astype(np.float32).tobytes() == found.tobytes()
    table = batchproof.Scorer(folder)(pa.Table.from_pylist(rows))
    assert np.stack([table[name].to_numpy() for name in names], axis=1).tobytes() == found.tobytes()


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda content: content.update(format_version=3), "quantiles are of regression bundles, of format_version 4"),
        (lambda content: content.update(quantiles=[0.5, 0.1, 0.9]), "quantiles ascend"),
        (lambda content: content.update(quantiles=[0.1, 0.1, 0.9]), "quantiles ascend"),
        (
            lambda content: content.update(quantiles=[0.0, 0.5, 0.9]),
            "quantiles.0: must be a number >= 0.001",
        ),
        (lambda content: content.update(quantiles=[]), "quantiles: must be an array of length >= 1"),
        (lambda content: content.update(quantiles=[0.1, 0.9]), "bundle.json asks for quantiles [rows, 2] float32"),
        (lambda content: content.pop("quantiles"), "the graph's outputs are quantiles [rows, 3] float32"),
    ],
)
def test_quantiles_that_are_refused(tmp_path: Path, edit: Callable[[Content], object], sentence: str) -> None:
    """Quantiles in an older format, out of order or other than the graph's are refused by name."""
    folder = make_bundle(tmp_path, task="regression", quantiles=LEVELS)
    reseal(folder, edit)
    with pytest.raises(BundleError, match=re.escape(sentence)):
        reader.read(folder)


def test_classes_have_no_quantiles(tmp_path: Path) -> None:
    """Quantiles are of a regression."""
    folder = make_bundle(tmp_path)
    reseal(folder, lambda content: content.update(format_version=4, quantiles=[0.5]))
    with pytest.raises(BundleError, match="quantiles are of regression bundles"):
        reader.read(folder)


def test_a_bundle_without_quantiles_is_written_as_before(tmp_path: Path) -> None:
    """A manifest without them has no such field, and an older service's description of a model none either."""
    manifest: Manifest = reader.read(make_bundle(tmp_path, task="regression")).manifest
    assert "quantiles" not in manifest.model_dump()
    assert ways(SimpleNamespace(manifest=manifest)).description().quantiles == ()  # type: ignore[arg-type]
