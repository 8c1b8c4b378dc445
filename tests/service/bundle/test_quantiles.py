"""A bundle's quantiles stand beside the value on every protocol and in every table, each under its level."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
import pytest

import batchproof
from batchproof.service.bundle import reader
from batchproof.service.bundle.manifest import Manifest
from batchproof.service.client.codecs.frame_codec import _columns
from batchproof.service.client.codecs.tensors import unpacked
from batchproof.service.client.messages import Response
from batchproof.service.client.model import Description, described
from batchproof.service.errors import BundleError
from batchproof.service.features.arrays import Outputs
from batchproof.service.inference.engine import EngineOptions
from batchproof.service.inference.model import Model, load
from batchproof.service.protocols.cloud.npy import array_of
from batchproof.service.protocols.cloud.protocol import ScoringCodec
from batchproof.service.protocols.interface import Call, Decoded, Limits
from batchproof.service.protocols.json_text.prediction_text import PredictionText
from batchproof.service.protocols.oip.metadata import outputs_of
from batchproof.service.protocols.oip.protocol import output_names
from batchproof.service.protocols.oip.request import Wanted
from batchproof.service.protocols.oip.response import ResponseWriter
from batchproof.service.server.grpc.messages import classes
from batchproof.service.server.grpc.tensors import Asked, Tensors
from batchproof.service.server.openapi.native import prediction_schema
from batchproof.service.tables.parameters import Parameters
from batchproof.service.tables.writers.arrow import ResultArrays
from batchproof.service.tables.writers.result_columns import Answered, ResultColumns
from tests.bundles import INPUTS, Content, make_bundle, random_rows, reseal, signature_of

LEVELS = (0.05, 0.5, 0.9)
ROWS = np.array([[1.5, 0.1, 1.25, 3.0], [-2.0, -7.5, -2.5, 0.3]], np.float32)  # the value, then its quantiles
OUTPUTS: Outputs = {"value": ROWS[:, :1], "quantiles": ROWS[:, 1:]}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Return the model of such a bundle."""
    folder = make_bundle(tmp_path_factory.mktemp("models"), task="regression", quantiles=LEVELS)
    return load(reader.read(folder), EngineOptions(device="cpu"), 64)


class TwoRows:
    """A block of a table, as far as the writers look at it."""

    rows, csv_delimiter = 2, ","


def answered() -> Answered:
    """Return the two rows as a table's writer gets them."""
    return Answered(TwoRows(), range(2), OUTPUTS, [])  # type: ignore[arg-type]


def named(predictions: list[dict[str, Any]]) -> np.ndarray:
    """Return predictions by name as rows of numbers, and hold the names to the levels."""
    assert [list(one["quantiles"]) for one in predictions] == [["0.05", "0.5", "0.9"]] * len(predictions)
    return np.array([[one["value"], *one["quantiles"].values()] for one in predictions], np.float32)


def in_json(model: Model) -> np.ndarray:
    """Return the numbers of JSON."""
    return named(orjson.loads(b"[" + PredictionText(model.manifest).write(OUTPUTS) + b"]"))


def scored(model: Model, form: str) -> bytes:
    """Return the body of a cloud platform's answer."""
    return bytes(ScoringCodec(model, Limits()).encode(Call(b"", [], "x"), Decoded(None, 2, form), OUTPUTS).body)  # type: ignore[arg-type]


def in_scoring_csv(model: Model) -> np.ndarray:
    """Return the numbers of SageMaker's CSV."""
    return np.array([line.split(",") for line in scored(model, "csv").decode().splitlines()], np.float32)


def infer(model: Model, *, is_binary: bool) -> Response:
    """Return the whole answer of the Open Inference Protocol."""
    wanted = Wanted(None, [(name, is_binary) for name in output_names(model.manifest)])
    answer = ResponseWriter(model.manifest).write(Call(b"", [], "x"), wanted, OUTPUTS)
    return Response(200, {name.decode(): value.decode() for name, value in answer.headers}, bytes(answer.body))


def in_oip(model: Model) -> np.ndarray:
    """Return the numbers of its JSON."""
    outputs = json.loads(infer(model, is_binary=False).body)["outputs"]
    assert [{"name": one["name"], "datatype": one["datatype"], "shape": [-1, one["shape"][1]]} for one in outputs] == (
        outputs_of(model.manifest)
    )
    return np.concatenate([np.array(one["data"], np.float32).reshape(one["shape"]) for one in outputs], axis=1)


def in_client_tensors(model: Model) -> np.ndarray:
    """Return the columns that the client makes of its binary tensors."""
    return columns(unpacked(infer(model, is_binary=True), description(model)))


def in_client_rows(model: Model) -> np.ndarray:
    """Return the columns that the client makes of a native answer."""
    return columns(_columns(model.decoder.decode(OUTPUTS), description(model)))


def columns(found: dict[str, Any]) -> np.ndarray:
    """Return columns as rows of numbers, and hold their names to the levels."""
    assert list(found) == ["prediction", "quantile_0.05", "quantile_0.5", "quantile_0.9"]
    return np.stack(list(found.values()), axis=1)


def description(model: Model) -> Description:
    """Return what the client knows of the model."""
    manifest = model.manifest
    content = {
        "name": manifest.name,
        "version": 1,
        "task": manifest.task,
        "metrics": {},
        "fingerprint": {},
        "signature": {"inputs": [], "target": "colour", "classes": None},
        "quantiles": list(manifest.quantiles or ()),
    }
    return described(Response(200, {}, json.dumps(content).encode()))


def in_grpc(model: Model) -> np.ndarray:
    """Return the numbers of gRPC."""
    names = output_names(model.manifest)
    message = Tensors(model.manifest, classes(), 100).write(Asked("", False, names), OUTPUTS)
    parts = [np.array(one.contents.fp32_contents, np.float32).reshape(list(one.shape)) for one in message.outputs]
    return np.concatenate(parts, axis=1)


def in_text_table(model: Model) -> np.ndarray:
    """Return the columns of a text table."""
    added = ResultColumns(model.manifest, Parameters())
    assert added.names == ["prediction", "quantile_0.05", "quantile_0.5", "quantile_0.9"]
    return np.array(added.cells(answered()), np.float32)


def in_arrow(model: Model) -> np.ndarray:
    """Return the columns of Arrow and Parquet."""
    return np.stack([array.to_numpy() for array in ResultArrays(model.manifest, Parameters()).arrays(answered())], 1)


WAYS: list[Callable[[Model], np.ndarray]] = [
    *(in_json, in_scoring_csv, in_oip, in_client_tensors, in_client_rows, in_grpc, in_text_table, in_arrow),
    lambda model: named(model.decoder.decode(OUTPUTS)),
    lambda model: array_of(scored(model, "npy")),
]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_out_has_the_same_quantiles(model: Model, way: Callable[[Model], np.ndarray]) -> None:
    """Each protocol, each table and the client answer the value and its quantiles with their bits, in the levels' order."""
    assert way(model).astype(np.float32).tobytes() == ROWS.tobytes()


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
            "quantiles.0: Input should be greater than or equal",
        ),
        (lambda content: content.update(quantiles=[]), "quantiles: Tuple should have at least 1 item"),
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
    assert "quantiles" not in manifest.model_dump(mode="json")
    assert description(SimpleNamespace(manifest=manifest)).quantiles == ()  # type: ignore[arg-type]
