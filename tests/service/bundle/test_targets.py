"""A bundle with several targets answers a value for each on every protocol and in every table, with the same bits."""

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
from batchproof.service.bundle.documents.card import model_card
from batchproof.service.bundle.manifest import Manifest
from batchproof.service.errors import BundleError
from batchproof.service.features.arrays import Outputs
from batchproof.service.inference.engine import EngineOptions
from batchproof.service.inference.model import Model, load
from batchproof.service.protocols.interface import Call, Limits
from batchproof.service.protocols.native.protocol import Native
from batchproof.service.protocols.oip.metadata import outputs_of
from batchproof.service.server.openapi.native import prediction_schema
from batchproof.service.tables.parameters import Parameters
from batchproof.service.tables.writers.result_columns import Answered, ResultColumns
from tests.bundles import INPUTS, Content, make_bundle, random_rows, reseal, signature_of
from tests.ways_out import WAYS, TwoRows, WaysOut

TARGETS = ("height", 'weight, "kg" 100%', "ålder")  # names that JSON, CSV and templates must quote
COLUMNS = [f"prediction_{target}" for target in TARGETS]
ROWS = np.array([[1.5, 0.1, 1.25], [-2.0, -7.5, 0.3]], np.float32)
OUTPUTS: Outputs = {"value": ROWS}
CONFORMAL = {
    "method": "split-conformal",
    "calibration_rows": 100,
    "coverages": [0.5, 0.9],
    "edges": [],
    "thresholds": [[0.25, 0.75]],
    "tested": {"0.9": {"coverage": 0.91, "width": 1.5}},
}


def made(folder: Path, *, arithmetic: str = "float32", edges: tuple[float, ...] = ()) -> Path:
    """Write a bundle with three targets and thresholds, the last target's in bins between `edges`."""
    made = make_bundle(folder, task="regression", targets=TARGETS, arithmetic=arithmetic, reference_rows=50)
    binned = {
        **CONFORMAL,
        "edges": list(edges),
        "thresholds": [[0.5 + bin_, 1.5 + bin_] for bin_ in range(len(edges) + 1)],
    }
    reseal(made, lambda content: content.update(uncertainties=[CONFORMAL, CONFORMAL, binned]))
    return made


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Return the model of such a bundle."""
    return load(reader.read(made(tmp_path_factory.mktemp("models"), edges=(0.0, 1.0))), EngineOptions(device="cpu"), 64)


def named(predictions: list[dict[str, Any]]) -> np.ndarray:
    """Return predictions by name as rows of numbers, and hold the names to the targets."""
    assert [list(one["values"]) for one in predictions] == [list(TARGETS)] * len(predictions)
    return np.array([list(one["values"].values()) for one in predictions], np.float32)


def ways(model: Model) -> WaysOut:
    """Return the ways out of such a model."""
    signature = model.manifest.signature
    known = {
        "target": signature.predicted,
        "signature": {**signature.model_dump(), "inputs": []},
        "quantiles": [],
    }
    return WaysOut(model, OUTPUTS, COLUMNS, named, known)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_out_has_the_same_values(model: Model, way: Callable[[WaysOut], np.ndarray]) -> None:
    """Each protocol, each table and the client answer every target's value with its bits, in the signature's order."""
    assert way(ways(model)).astype(np.float32).tobytes() == ROWS.tobytes()


def test_rows_that_fail_have_no_value(model: Model) -> None:
    """In a table, a row that is refused has an empty cell for each target."""
    added = ResultColumns(model.manifest, Parameters(on_error="row"))
    some = Answered(TwoRows(), [1], {"value": ROWS[1:]}, [])  # type: ignore[arg-type]
    assert added.names == [*COLUMNS, "error"]
    assert added.cells(some) == [["", "", "", ""], ["-2.0", "-7.5", "0.3", ""]]


def test_the_document_describes_them(model: Model) -> None:
    """OpenAPI requires a number for each target, and the Open Inference Protocol has one output of their width."""
    assert outputs_of(model.manifest) == [{"name": "value", "datatype": "FP32", "shape": [-1, 3]}]
    (prediction, _) = prediction_schema(model.manifest)["anyOf"]
    assert prediction["properties"]["values"]["required"] == list(TARGETS)


def ask(model: Model, content: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the predictions that a native request gets."""
    codec, call = Native().codec(model, Limits()), Call(json.dumps(content).encode(), [], "id")
    decoded = codec.decode(call)
    (outputs,) = model.runner.run([decoded.arrays])
    found: list[dict[str, Any]] = json.loads(codec.encode(call, decoded, outputs).body)["predictions"]
    return found


def test_intervals_and_explanations_are_those_of_each_target(model: Model) -> None:
    """A request for coverage and explanations gets one of each for every target, made of that target's value alone."""
    rows = random_rows(model.manifest.signature, 6, seed=2)
    plain = ask(model, {"rows": rows})
    for short, full in zip(plain, ask(model, {"rows": rows, "coverage": 0.9, "explain": True}), strict=True):
        assert full["values"] == short["values"]
        for place, target in enumerate(TARGETS):
            value, half = np.float32(full["values"][target]), 0.75
            if place == 2:
                half = 1.5 + np.searchsorted([0.0, 1.0], value, side="right")
            wanted = [np.float32(np.float64(value) - half), np.float32(np.float64(value) + half)]
            assert [np.float32(end) for end in full["intervals"][target]] == wanted
            found = full["explanations"][target]
            assert found["score"] == np.float64(value)
            assert found["baseline"] + sum(found["contributions"].values()) == pytest.approx(found["score"], abs=1e-6)


@pytest.mark.parametrize("arithmetic", ["float32", "exact"])
def test_python_agrees_in_any_batch(tmp_path: Path, arithmetic: str) -> None:
    """Rows, frames and tables, together, alone and in another order, get the same bits for every target."""
    folder = made(tmp_path, arithmetic=arithmetic)
    drawn = random_rows(signature_of("regression"), 60, 3)
    rows = [{feature["name"]: row[place] for place, feature in enumerate(INPUTS)} for row in drawn]
    model, found = batchproof.load_model(folder), named(batchproof.load_model(folder).predict(rows))
    alone = named([model.predict(row) for row in rows])
    backwards = named(model.predict(rows[::-1]))[::-1]
    frame = model.predict(pl.DataFrame(rows, infer_schema_length=None)).select(COLUMNS).to_numpy().astype(np.float32)
    scorer = batchproof.Scorer(folder)
    table = scorer(pa.Table.from_pylist(rows))
    assert scorer.schema(pa.Table.from_pylist(rows).schema) == table.schema
    scored = np.stack([table[name].to_numpy() for name in COLUMNS], axis=1)
    assert {each.tobytes() for each in (alone, backwards, frame, scored)} == {found.tobytes()}


def test_the_card_names_each(model: Model) -> None:
    """The model card has the metrics and the coverage of each target."""
    own = {"rmse": 2.5, "constant_rmse": 5.0, "intervals": {"rmse": [2.0, 3.0]}}
    metrics = {"rows": 9, "standardised_rmse": 0.5, "targets": {"height": own}}
    card = model_card(model.manifest.model_copy(update={"metrics": metrics}))
    assert "Predicts `height`, " in card
    assert "| RMSE of height | 2.5 | 2 to 3 | 5 |" in card
    assert "| `height` | 90 % | 91.0 % | 1.5 |" in card


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda c: c.update(format_version=4), "several targets are of regression bundles, of format_version 5 or later"),
        (lambda c: c["signature"].update(target="a"), "signature: there is either a target or a list of targets"),
        (lambda c: c["signature"].pop("targets"), "signature: there is either a target or a list of targets"),
        (lambda c: c["signature"].update(targets=["a"]), "signature.targets: must be an array of length >= 2"),
        (lambda c: c["signature"].update(targets=["a", "b", "a"]), "targets repeat"),
        (lambda c: (c.pop("uncertainties"), c["signature"].update(targets=["a", "b"])), "bundle.json asks for value [rows, 2] float32"),
        (lambda c: c.update(quantiles=[0.5]), "quantiles and uncertainty are of bundles with one target"),
        (lambda c: c.update(uncertainty=CONFORMAL), "quantiles and uncertainty are of bundles with one target"),
        (lambda c: c["uncertainties"].pop(), "uncertainties has 2 entries for 3 targets"),
        (
            lambda c: c["uncertainties"][1].update(coverages=[0.5, 0.8]),
            "all uncertainties have the same coverages",
        ),
    ],
)  # fmt: skip
def test_targets_that_are_refused(tmp_path: Path, edit: Callable[[Content], object], sentence: str) -> None:
    """Targets in an older format, repeated, or other than the graph's and the thresholds' are refused by name."""
    folder = made(tmp_path)
    reseal(folder, edit)
    with pytest.raises(BundleError, match=re.escape(sentence)):
        reader.read(folder)


def test_one_target_has_no_list(tmp_path: Path) -> None:
    """A bundle with one target has none of the new fields, and is refused where it has thresholds of several."""
    folder = make_bundle(tmp_path, task="regression")
    manifest: Manifest = reader.read(folder).manifest
    content = manifest.model_dump()
    assert list(content["signature"]) == ["inputs", "target", "classes"]
    assert not {"targets", "uncertainties"} & {*content, *content["signature"]}
    assert ways(SimpleNamespace(manifest=manifest)).description().targets == ()  # type: ignore[arg-type]
    reseal(folder, lambda content: content.update(uncertainties=[CONFORMAL, CONFORMAL], format_version=5))
    with pytest.raises(BundleError, match="uncertainties are of bundles with several targets"):
        reader.read(folder)


def test_classes_have_one_target(tmp_path: Path) -> None:
    """Several targets are of a regression."""
    folder = make_bundle(tmp_path)
    reseal(
        folder,
        lambda c: (c.update(format_version=5), c["signature"].pop("target"), c["signature"].update(targets=["a", "b"])),
    )
    with pytest.raises(BundleError, match="several targets are of regression bundles"):
        reader.read(folder)


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda p: p["values"].pop(), "predictions.values must be a list of 3 entries, one for each target"),
        (lambda p: p["values"][2]["counts"].append(0), "predictions.values.2.counts must be a list of"),
        (lambda p: p.pop("values"), "predictions.values must be a list of 3 entries"),
        (lambda p: p.update(more=1), "predictions.values must be a list of 3 entries"),
    ],
)
def test_statistics_that_are_refused(tmp_path: Path, edit: Callable[[Content], object], sentence: str) -> None:
    """The predictions' statistics are those of each target; others are refused by name."""
    folder = made(tmp_path)
    statistics = json.loads((folder / "reference.json").read_bytes())
    edit(statistics["predictions"])
    (folder / "reference.json").write_text(json.dumps(statistics))
    reseal(folder)
    with pytest.raises(BundleError, match=re.escape(sentence)):
        reader.read(folder)


def test_coverages_are_those_of_the_thresholds(tmp_path: Path) -> None:
    """Without thresholds no coverage may be asked for, with one set or several the coverages of the first."""
    manifest = reader.read(make_bundle(tmp_path)).manifest
    assert manifest.coverages == ()
    some = SimpleNamespace(coverages=(0.8, 0.9))
    assert manifest.model_copy(update={"uncertainty": some}).coverages == (0.8, 0.9)
    assert manifest.model_copy(update={"uncertainties": (some, some)}).coverages == (0.8, 0.9)
