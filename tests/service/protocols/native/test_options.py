"""Coverage, explanations and detail are added to answers whose ordinary part stays as it was."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchproof.service.bundle import reader as bundle
from batchproof.service.errors import ServiceError
from batchproof.service.inference import model
from batchproof.service.inference.engine import EngineOptions
from batchproof.service.inference.model import Model
from batchproof.service.protocols.interface import Call, Codec, Limits
from batchproof.service.protocols.native.protocol import Native
from tests.bundles import make_bundle, random_rows, reseal

CONFORMAL = {
    "method": "split-conformal",
    "calibration_rows": 100,
    "coverages": [0.5, 0.9],
    "edges": [],
    "thresholds": [[0.2, 0.7]],
    "tested": {},
}
Ask = Callable[..., list[dict[str, Any]]]


def loaded(folder: Path, task: str = "multiclass", arithmetic: str = "float32", seed: int = 0) -> Model:
    """Return a model with thresholds."""
    made = make_bundle(folder, task=task, arithmetic=arithmetic, seed=seed)
    reseal(made, lambda content: content.update(uncertainty=CONFORMAL))
    return model.load(bundle.read(made), EngineOptions(device="cpu"), 512)


def answer(codec: Codec, one: Model, content: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the predictions that a request gets."""
    call = Call(json.dumps(content).encode(), [], "id")
    decoded = codec.decode(call)
    (outputs,) = one.runner.run([decoded.arrays])
    predictions: list[dict[str, Any]] = json.loads(codec.encode(call, decoded, outputs).body)["predictions"]
    return predictions


@pytest.fixture(params=["multiclass", "binary", "regression"])
def one(request: pytest.FixtureRequest, tmp_path: Path) -> Model:
    """Return a model of each task."""
    return loaded(tmp_path, request.param)


@pytest.fixture
def rows(one: Model) -> list[list[Any]]:
    """Return rows for it."""
    return random_rows(one.manifest.signature, 9, seed=4)


def test_asking_for_more_changes_no_digit(one: Model, rows: list[list[Any]]) -> None:
    """What a plain answer holds is in a fuller one, digit for digit, in the same order."""
    codec = Native().codec(one, Limits())
    plain = answer(codec, one, {"rows": rows})
    fuller = answer(codec, one, {"rows": rows, "coverage": 0.9, "explain": True})
    assert [{name: full[name] for name in short} for short, full in zip(plain, fuller, strict=True)] == plain


def test_contributions_add_up(one: Model, rows: list[list[Any]]) -> None:
    """The baseline's score and the contributions of all features sum to the row's score."""
    for prediction in answer(Native().codec(one, Limits()), one, {"rows": rows, "explain": True}):
        found = prediction["explanation"]
        total = found["baseline"] + sum(found["contributions"].values())
        assert total == pytest.approx(found["score"], abs=1e-6)
        assert list(found["contributions"]) == [feature.name for feature in one.manifest.signature.inputs]


def test_explanations_do_not_depend_on_the_batch(one: Model, rows: list[list[Any]]) -> None:
    """A row is explained in the same digits alone and among others."""
    codec = Native().codec(one, Limits())
    together = answer(codec, one, {"rows": rows, "explain": True})
    assert [answer(codec, one, {"rows": [row], "explain": True})[0] for row in rows] == together


def test_an_uncertain_answer_says_what_it_covers(one: Model, rows: list[list[Any]]) -> None:
    """An interval holds its value, a set its label, and the stored coverage is at least the one asked for."""
    for prediction in answer(Native().codec(one, Limits()), one, {"rows": rows, "coverage": 0.6}):
        assert prediction["coverage"] == 0.9
        if "value" in prediction:
            low, high = prediction["interval"]
            assert low <= prediction["value"] <= high
        else:
            assert prediction["label"] in prediction["set"]


def test_bad_rows_keep_their_places(one: Model, rows: list[list[Any]]) -> None:
    """With on_error "row", good rows are explained and a bad one says why."""
    sent = [rows[0], [object.__name__], rows[1]]
    found = answer(Native().codec(one, Limits()), one, {"rows": sent, "on_error": "row", "explain": True})
    assert ["explanation" in prediction for prediction in found] == [True, False, True]
    assert "error" in found[1]


def test_saturation_is_told_of_exact_models(tmp_path: Path) -> None:
    """Detail adds the graph's own flag for each row."""
    exact = loaded(tmp_path, arithmetic="exact", seed=3)
    sent = random_rows(exact.manifest.signature, 500, seed=2)
    found = answer(Native().codec(exact, Limits()), exact, {"rows": sent, "detail": True})
    (outputs,) = exact.runner.run([exact.encoder.encode_rows(sent).arrays])
    assert [prediction["saturated"] for prediction in found] == outputs["saturated"][:, 0].tolist()
    assert len(np.unique(outputs["saturated"])) == 2


@pytest.mark.parametrize("arithmetic", ["float32", "exact"])
@pytest.mark.parametrize("more", [{}, {"explain": True}, {"on_error": "row"}])
def test_detail_names_what_training_did_not_have(tmp_path: Path, arithmetic: str, more: dict[str, Any]) -> None:
    """Each row names its unseen categories and its values beyond the training range, and no missing or usual ones."""
    one = loaded(tmp_path, arithmetic=arithmetic)
    usual = [40.0, "Oslo", 3, None, True, 1, None]
    rows = [
        usual,
        [60.0, "oslo", 9, "2001-09-09T01:46:40Z", False, 77, True],
        [60.1, None, -5000, "2001-09-09T01:46:39Z", 1, -3, False],
        [None, "Ærø", 10, "2030-01-01", True, 2, None],
    ]
    found = answer(Native().codec(one, Limits()), one, {"rows": rows, "detail": True, **more})
    assert [prediction["unseen"] for prediction in found] == [[], ["island", "grade"], [], []]
    beyond = [[], [], ["length_mm", "count", "seen"], ["count", "seen"]]
    assert [prediction["out_of_range"] for prediction in found] == beyond
    assert ["saturated" in prediction for prediction in found] == [arithmetic == "exact"] * 4


@pytest.mark.parametrize(
    "more, sentence",
    [
        ({"coverage": 0.95}, "at most 0.9"),
        ({"coverage": "high"}, "coverage must be a number"),
        ({"coverage": True}, "coverage must be a number"),
        ({"explain": 1}, "explain must be true or false"),
        ({"detail": "yes"}, "detail must be true or false"),
        ({"cover": 0.9}, "Did you mean 'coverage'"),
    ],
)
def test_what_cannot_be_given_is_refused(tmp_path: Path, more: dict[str, Any], sentence: str) -> None:
    """Each further field has its own sentence for a wrong value."""
    codec = Native().codec(loaded(tmp_path), Limits())
    with pytest.raises(ServiceError, match=sentence) as refused:
        codec.decode(Call(json.dumps({"rows": [], **more}).encode(), [], "id"))
    assert refused.value.status == 422


def test_a_model_without_thresholds_gives_no_coverage(tmp_path: Path) -> None:
    """Asking for it is refused with the reason."""
    plain = model.load(bundle.read(make_bundle(tmp_path)), EngineOptions(device="cpu"), 512)
    with pytest.raises(ServiceError, match="trained without the rows"):
        Native().codec(plain, Limits()).decode(Call(b'{"rows": [], "coverage": 0.9}', [], "id"))


def test_explanations_count_towards_the_rows(tmp_path: Path) -> None:
    """A request whose mixed rows are too many is told how many rows it may have."""
    one = loaded(tmp_path)
    sent = random_rows(one.manifest.signature, 10)
    with pytest.raises(ServiceError, match="at most 7 rows at once"):
        Native().codec(one, Limits(max_rows=1000)).decode(
            Call(json.dumps({"rows": sent, "explain": True}).encode(), [], "id")
        )
