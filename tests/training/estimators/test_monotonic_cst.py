"""`monotonic_cst`, as scikit-learn has it, in the estimators."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

import batchproof
from batchproof.training.estimators.estimator import BatchNormMLPClassifier, BatchNormMLPRegressor

QUICK: dict[str, Any] = {"widths": (12,), "ensemble": 1, "encoding": "bins", "epochs": 15, "threads": 1}
QUICK |= {"learning_rate": 0.02, "device": "cpu"}


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"a": random.normal(size=300), "b": random.normal(size=300), "k": random.choice(["u", "v"], 300)}
    )
    return frame.assign(y=random.normal(size=300) + 0.3 * frame["a"] - 0.3 * frame["b"])


def steps(model: Any, frame: pd.DataFrame, name: str) -> np.ndarray:
    """Return by how much predictions grow where only one feature does [steps]."""
    swept = pd.concat([frame.iloc[[0]]] * 200, ignore_index=True).assign(**{name: np.linspace(-5.0, 5.0, 200)})
    found = model.predict_proba(swept)[:, 1] if isinstance(model, BatchNormMLPClassifier) else model.predict(swept)
    return np.diff(found)


@pytest.mark.parametrize("given", [{"a": 1, "b": -1}, {"a": 1, "b": -1, "k": 0}, [1, -1, 0], np.array([1, -1, 0])])
def test_a_dict_and_an_array_say_the_same(frame: pd.DataFrame, tmp_path: Path, given: Any) -> None:
    """Predictions never fall with 1 and never rise with -1, in the estimator and, bit for bit, in the exported bundle."""
    x, y = frame[["a", "b", "k"]], frame["y"]
    model = clone(BatchNormMLPRegressor(**QUICK, monotonic_cst=given)).fit(x, y)
    assert (steps(model, x, "a") >= 0.0).all()
    assert (steps(model, x, "b") <= 0.0).all()
    loaded = batchproof.load_model(model.export(tmp_path, "m"))
    assert loaded.manifest.provenance["monotone"]["increasing"] == ["a"]
    assert loaded.manifest.provenance["monotone"]["decreasing"] == ["b"]
    assert loaded.predict(x)["prediction"].to_numpy().tobytes() == model.predict(x).tobytes()


def test_of_two_classes_it_is_the_probability_of_the_second(frame: pd.DataFrame) -> None:
    """As in scikit-learn, the constraint holds for classes_[1]; an array has columns in their order."""
    x = frame[["a", "b"]].to_numpy()
    model = BatchNormMLPClassifier(**QUICK, monotonic_cst=[1, 0]).fit(x, np.where(frame["y"] > 0.0, "no", "yes"))
    assert model.classes_.tolist() == ["no", "yes"]
    swept = np.stack([np.linspace(-5.0, 5.0, 200), np.zeros(200)], axis=1)
    assert (np.diff(model.predict_proba(swept)[:, 1]) >= 0.0).all()


def test_without_a_constraint_predictions_fall_somewhere(frame: pd.DataFrame) -> None:
    """None, zeros and an empty dict leave the fit free, to the same bits: so the tests above can fail."""
    x, y = frame[["a", "b", "k"]], frame["y"]
    free = [BatchNormMLPRegressor(**QUICK, monotonic_cst=given).fit(x, y) for given in (None, {}, [0, 0, 0])]
    assert len({model.predict(x).tobytes() for model in free}) == 1
    assert (steps(free[0], x, "a") < 0.0).any()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"c": 1}, r"^monotonic_cst names 'c', but there is no such column"),
        ({"a": 2}, r"^monotonic_cst is 2 for 'a': use 1 \(increasing\), -1 \(decreasing\) or 0 \(neither\)\.$"),
        ([1, 0], r"^monotonic_cst has shape \(2,\) for 3 columns: give a dict by name, or one of 1, 0 and -1 for each"),
        ({"k": 1}, r"^monotonic_cst names 'k', which is categorical: only numbers and dates grow"),
    ],
)
def test_what_cannot_be_constrained(frame: pd.DataFrame, given: Any, sentence: str) -> None:
    """Each is a ValueError that names the parameter and what is wrong."""
    with pytest.raises(ValueError, match=sentence):
        BatchNormMLPRegressor(**QUICK, monotonic_cst=given).fit(frame[["a", "b", "k"]], frame["y"])


def test_several_classes_are_refused(frame: pd.DataFrame) -> None:
    """Classes have no order: one sentence says so."""
    with pytest.raises(
        ValueError, match=r"^monotonic_cst is for a number or two classes, but the target .* has 3 classes"
    ):
        BatchNormMLPClassifier(**QUICK, monotonic_cst={"a": 1}).fit(frame[["a"]], np.arange(300) % 3)
