"""A bundle's threshold decides the label on every protocol and in every table, and changes no probability."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
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
from batchproof.service.journal.replaying.against import _texts
from batchproof.service.protocols.cloud.protocol import ScoringCodec
from batchproof.service.protocols.interface import Call, Decoded, Limits
from batchproof.service.protocols.json_text.prediction_text import PredictionText
from batchproof.service.protocols.oip.request import Wanted
from batchproof.service.protocols.oip.response import ResponseWriter
from batchproof.service.protocols.options import OptionWriter
from batchproof.service.server.grpc.messages import classes
from batchproof.service.server.grpc.tensors import Asked, Tensors
from batchproof.service.tables.parameters import Parameters
from batchproof.service.tables.writers.arrow import ResultArrays
from batchproof.service.tables.writers.result_columns import Answered, ResultColumns
from tests.bundles import INPUTS, Content, make_bundle, random_rows, reseal, signature_of

ROOT = Path(__file__).resolve().parents[3]
SECOND = np.array([0.2, 0.3, 0.9], np.float32)  # 0.3 is at the threshold: the second class
OUTPUTS: Outputs = {"probabilities": np.stack([1 - SECOND, SECOND], 1), "scores": np.zeros((3, 2), np.float32)}
LABELS = ["no", "yes", "yes"]  # the most probable classes are no, no, yes
DECISION = {"threshold": 0.3, "rule": "cost=1:2", "rows": 40}


def decided(models: Path, **decision: Any) -> Path:
    """Write a bundle of two classes with a decision and return its folder."""
    folder = make_bundle(models, task="binary")
    reseal(folder, lambda content: content.update(format_version=3, decision={**DECISION, **decision}))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Return the model of such a bundle."""
    return load(reader.read(decided(tmp_path_factory.mktemp("models"))), EngineOptions(device="cpu"), 64)


class ThreeRows:
    """A block of a table, as far as the writers look at it."""

    rows, csv_delimiter = 3, ","


def answered() -> Answered:
    """Return the three rows as a table's writer gets them."""
    return Answered(ThreeRows(), range(3), OUTPUTS, [])  # type: ignore[arg-type]


def in_json(model: Model) -> list[str]:
    """Return the labels of JSON for a few rows, one by one."""
    return [orjson.loads(text)["label"] for text in PredictionText(model.manifest).each(OUTPUTS)]


def in_much_json(model: Model) -> list[str]:
    """Return the labels of the three rows among many."""
    many = {name: np.tile(values, (10, 1)) for name, values in OUTPUTS.items()}
    return [one["label"] for one in orjson.loads(b"[" + PredictionText(model.manifest).write(many) + b"]")][-3:]


def in_scoring_csv(model: Model) -> list[str]:
    """Return the labels of SageMaker's CSV."""
    body = ScoringCodec(model, Limits()).encode(Call(b"", [], "x"), Decoded(None, 3, "csv"), OUTPUTS).body  # type: ignore[arg-type]
    return [line.split(",")[0] for line in bytes(body).decode().splitlines()]


def in_oip(model: Model) -> list[str]:
    """Return the labels of the Open Inference Protocol in JSON."""
    answer = ResponseWriter(model.manifest).write(Call(b"", [], "x"), Wanted(None, [("label", False)]), OUTPUTS)
    return list(json.loads(answer.body)["outputs"][0]["data"])


def in_oip_binary(model: Model) -> list[str]:
    """Return the labels of its binary tensors: each text behind its length in four bytes."""
    answer = ResponseWriter(model.manifest).write(Call(b"", [], "x"), Wanted(None, [("label", True)]), OUTPUTS)
    return re.findall("yes|no", bytes(answer.body).partition(b"]}")[2].decode())


def in_grpc(model: Model) -> list[str]:
    """Return the labels of gRPC."""
    message = Tensors(model.manifest, classes(), 100).write(Asked("", False, ["label"]), OUTPUTS)
    return [text.decode() for text in message.outputs[0].contents.bytes_contents]


def in_text_table(model: Model) -> list[str]:
    """Return the predictions of a text table."""
    return [cells[0] for cells in ResultColumns(model.manifest, Parameters()).cells(answered())]


def in_arrow(model: Model) -> list[str]:
    """Return the predictions of Arrow and Parquet."""
    return list(ResultArrays(model.manifest, Parameters()).arrays(answered())[0].to_pylist())


WAYS: list[Callable[[Model], list[str]]] = [
    *(in_json, in_much_json, in_scoring_csv, in_oip, in_oip_binary, in_grpc, in_text_table, in_arrow),
    lambda model: [one["label"] for one in model.decoder.decode(OUTPUTS)],
    lambda model: _texts(model, OUTPUTS),
]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_out_has_the_same_labels(model: Model, way: Callable[[Model], list[str]]) -> None:
    """Each protocol, each table and a replayed journal answer the label by the threshold."""
    assert way(model) == LABELS


def test_python_agrees(tmp_path: Path) -> None:
    """A model in the process labels rows, frames and tables by the threshold of its bundle."""
    folder = decided(tmp_path)
    plain = make_bundle(tmp_path, "plain", task="binary")
    drawn = random_rows(signature_of("binary"), 60, 3)
    rows = [{feature["name"]: row[place] for place, feature in enumerate(INPUTS)} for row in drawn]
    answers = batchproof.load_model(folder).predict(rows)
    before = batchproof.load_model(plain).predict(rows)
    wanted = ["yes" if one["probabilities"]["yes"] >= 0.3 else "no" for one in answers]

    assert [one["probabilities"] for one in answers] == [one["probabilities"] for one in before]
    assert [one["label"] for one in answers] == wanted != [one["label"] for one in before]
    frame = pl.DataFrame(rows, infer_schema_length=None)
    assert batchproof.load_model(folder).predict(frame)["prediction"].to_list() == wanted
    assert batchproof.Scorer(folder)(pa.Table.from_pylist(rows))["prediction"].to_pylist() == wanted


def test_an_explanation_is_of_the_label(model: Model) -> None:
    """The contributions are those to the score of the class that is answered."""
    writer = OptionWriter(model.manifest)
    asked = writer.asked({"explain": True})
    arrays, rows = writer.expand(
        asked, model.encoder.encode_rows(random_rows(model.manifest.signature, 1, 0)).arrays, 1, 10**6
    )
    outputs = dict(model.runner.run([arrays])[0])
    second = np.full(len(outputs["probabilities"]), 0.4, np.float32)
    outputs["probabilities"] = np.stack([1 - second, second], axis=1)
    (text,) = writer.write(asked, arrays, outputs, [b"{}"[:1] + b'"a":1}'])
    centred = outputs["scores"][0] - outputs["scores"][0].mean()

    assert rows == len(second)
    assert orjson.loads(text)["explanation"]["score"] == pytest.approx(float(centred[1]), rel=1e-5)


def test_one_place_decides() -> None:
    """Nothing else in the service takes the greatest probability for the label."""
    allowed = {
        "bundle/manifest.py",
        "bundle/conformal.py",
        "drift/counts.py",
    }  # sets, and counts of what is most probable
    found = {
        str(path.relative_to(ROOT / "service"))
        for path in (ROOT / "service").rglob("*.py")
        if re.search(r"(probabilities\"\]|probabilities|values)(\[[^]]*\])?\.argmax\(", path.read_text())
    }
    assert found == allowed


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda content: content.update(format_version=2), "decision is of binary bundles, of format_version 3"),
        (lambda content: content["decision"].update(threshold=1.0), "decision.threshold: must be a number < 1.0"),
        (
            lambda content: content["decision"].update(threshold=0.0),
            "decision.threshold: must be a number > 0.0",
        ),
        (lambda content: content["decision"].update(costs=[1, 2]), "decision.costs: is no known field"),
        (lambda content: content["decision"].pop("rule"), "decision.rule: is missing"),
        (lambda content: content.update(format_version=6), "format_version 6; this service reads 1 to 5"),
    ],
)
def test_decisions_that_are_refused(tmp_path: Path, edit: Callable[[Content], object], sentence: str) -> None:
    """A decision in an older format, out of bounds, or with unknown fields is refused by name."""
    folder = decided(tmp_path)
    reseal(folder, edit)
    with pytest.raises(BundleError, match=re.escape(sentence)):
        reader.read(folder)


def test_three_classes_have_no_threshold(tmp_path: Path) -> None:
    """A decision is of two classes."""
    folder = make_bundle(tmp_path)
    reseal(folder, lambda content: content.update(format_version=3, decision=DECISION))
    with pytest.raises(BundleError, match="decision is of binary bundles"):
        reader.read(folder)


def test_a_bundle_without_a_decision_is_written_as_before(tmp_path: Path) -> None:
    """A manifest without one has no such field, so that older readers read it."""
    manifest: Manifest = reader.read(make_bundle(tmp_path, task="binary")).manifest
    assert "decision" not in manifest.model_dump()
    assert manifest.label_places(OUTPUTS["probabilities"]).tolist() == [0, 0, 1]
