"""Outputs to predictions: names, labels, and the shortest digits."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproof.service.bundle.manifest import Manifest
from batchproof.service.bundle.signature import class_text
from batchproof.service.features.decoder import Decoder, labels_of, shortest
from tests.bundles import CLASSES, INPUTS

PROBABILITIES = np.array([[0.1, 0.7, 0.2], [0.4, 0.2, 0.4]], dtype=np.float32)


def decoder(task: str, classes: list[bool | int | str] | None) -> Decoder:
    content = {
        "format": "batchproof-bundle",
        "format_version": 1,
        "sha256": "0" * 64,
        "name": "m",
        "version": 1,
        "task": task,
        "signature": {"inputs": INPUTS, "target": "t", "classes": classes},
        "arithmetic": {"kind": "float32"},
        "files": {},
        "metrics": {},
        "provenance": {},
    }
    return Decoder(Manifest.model_validate(content))


def test_classes_get_labels_and_probabilities() -> None:
    """The label is the most probable class; of equally probable ones the first."""
    predictions = decoder("multiclass", list(CLASSES["multiclass"] or [])).decode({"probabilities": PROBABILITIES})
    assert predictions == [
        {"label": "green", "probabilities": {"red": 0.1, "green": 0.7, "blue": 0.2}},
        {"label": "red", "probabilities": {"red": 0.4, "green": 0.2, "blue": 0.4}},
    ]


@pytest.mark.parametrize("classes, label, keys", [([0, 1], 1, ["0", "1"]), ([False, True], True, ["false", "true"])])
def test_labels_keep_their_json_type(classes: list[bool | int | str], label: object, keys: list[str]) -> None:
    """A label has the target's own type; keys are strings because JSON's are."""
    (prediction,) = decoder("binary", classes).decode({"probabilities": np.array([[0.25, 0.75]], np.float32)})
    assert prediction["label"] is label
    assert list(prediction["probabilities"]) == keys == [class_text(one) for one in classes]


def test_regression_gets_a_value() -> None:
    """A regression's prediction is a value in the target's unit."""
    predictions = decoder("regression", None).decode({"value": np.array([[0.1], [-1e30]], np.float32)})
    assert predictions == [{"value": 0.1}, {"value": -1e30}]


def test_no_rows_have_no_predictions() -> None:
    """No row gives no prediction."""
    assert decoder("regression", None).decode({"value": np.zeros((0, 1), np.float32)}) == []


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=20))
def test_digits_are_the_shortest_that_read_back(values: list[float]) -> None:
    """Every float32 reads back to its bits, from no more digits than NumPy's shortest."""
    array = np.array(values, dtype=np.float32)
    written = [json.dumps(value) for value in shortest(array)]
    assert np.array([float(text) for text in written], dtype=np.float32).tobytes() == array.tobytes()
    for text, value in zip(written, array, strict=True):
        digits = np.format_float_scientific(value, unique=True, trim="-").split("e")[0]
        assert len(text.split("e")[0].replace(".", "").strip("-0")) <= max(1, len(digits.replace(".", "").strip("-0")))


@pytest.mark.parametrize(
    "classes, datatype, labels",
    [
        ([True, False], "BOOL", [True, False]),
        ([3, -(2**63)], "INT64", [3, -(2**63)]),
        ([3, 2**63], "BYTES", ["3", str(2**63)]),
        ([3, "x"], "BYTES", ["3", "x"]),
        ([True, 1], "BYTES", ["true", "1"]),
    ],
)
def test_labels_have_one_datatype(classes: list[Any], datatype: str, labels: list[Any]) -> None:
    """Labels of one type that a column can hold keep it; mixed ones, and numbers beyond 64 bits, become their texts."""
    assert labels_of(classes) == (datatype, labels)
