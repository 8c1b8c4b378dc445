"""LightGBM and CatBoost, in place of which stand modules that only note what they are given: neither is installed here."""

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest

from batchproof.training.data.dataset import Dataset, prepare
from batchproof.training.evaluation import boosters
from batchproof.training.evaluation.cross_validation import SIMPLEST_FIRST
from batchproof.training.settings import make

KINDS = ("LGBMClassifier", "LGBMRegressor", "CatBoostClassifier", "CatBoostRegressor")


class Noting:
    """A model that notes what it was made and fitted with, and answers 0.5."""

    made: ClassVar[list["Noting"]] = []

    def __init__(self, **options: Any) -> None:
        self.options, self.fitted, self.asked = options, {}, {}
        Noting.made.append(self)

    def fit(self, *rows: Any, **options: Any) -> None:
        """Note rows and options."""
        self.fitted = {"rows": rows, **options}

    def predict(self, rows: Any, **options: Any) -> np.ndarray:
        """Note what is asked for."""
        self.asked = options
        return np.full(len(rows), 0.5)

    def predict_proba(self, rows: Any) -> np.ndarray:
        """Answer for two classes."""
        return np.full((len(rows), 2), 0.5)


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> type[Noting]:
    """Both libraries, as far as they are used."""
    for name in ("lightgbm", "catboost"):
        module: Any = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        module.early_stopping = lambda rounds, verbose: rounds
        module.Pool = lambda rows, y, categories, weight: {
            "rows": rows,
            "y": y,
            "categories": categories,
            "weight": weight,
        }
        for kind in KINDS:
            setattr(module, kind, Noting)
        monkeypatch.setitem(sys.modules, name, module)
    Noting.made.clear()
    return Noting


def table(folder: Path, **settings: Any) -> Dataset:
    random = np.random.default_rng(0)
    lines = [
        f"{random.normal():.3f},{random.choice(['a', 'b'])},{random.gamma(2.0):.3f},{random.gamma(2.0):.3f},{random.integers(1, 4)}"
        for _ in range(60)
    ]
    (folder / "t.csv").write_text("x,k,y,z,w\n" + "\n".join(lines) + "\n")
    return prepare(folder / "t.csv", make({"target": "y", "drop": ("z",), **settings}))


def test_what_is_not_installed_is_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the libraries there are no further methods."""
    monkeypatch.setattr(boosters, "find_spec", lambda _: None)
    assert boosters.installed(table(tmp_path)) == {}


@pytest.mark.usefixtures("libraries")
def test_a_library_without_the_objective_is_not_compared(tmp_path: Path) -> None:
    """CatBoost has no gamma deviance; what is compared has a place in the advice."""
    assert list(boosters.installed(table(tmp_path))) == ["LightGBM", "CatBoost"]
    assert list(boosters.installed(table(tmp_path, objective="gamma"))) == ["LightGBM"]
    assert set(boosters.installed(table(tmp_path))) < set(SIMPLEST_FIRST)


def test_both_fit_the_same_rows_weights_and_constraints(tmp_path: Path, libraries: type[Noting]) -> None:
    """Each gets the training rows, is stopped on the validation rows, and knows categories and directions."""
    data = table(tmp_path, weight="w", increasing=("x",))
    answers = [method(data) for method in boosters.installed(data).values()]
    assert [len(answer) for answer in answers] == [len(data.split.test)] * 2
    light, cat = libraries.made
    assert light.fitted["rows"][0].shape == (len(data.split.train), 2)
    assert light.fitted["categorical_feature"] == [1]
    assert light.options["monotone_constraints"] == cat.options["monotone_constraints"] == [1, 0]
    (pool,) = cat.fitted["rows"]
    assert pool["categories"] == ["c0"]
    assert pool["rows"]["c0"].dtype == np.int64
    weights = data.weights("train"), data.weights("validation")
    assert all(weight is not None for weight in weights)
    assert light.fitted["sample_weight"].tolist() == pool["weight"].tolist() == list(weights[0])  # type: ignore[arg-type]
    (held,) = light.fitted["eval_sample_weight"]
    assert held.tolist() == cat.fitted["eval_set"]["weight"].tolist() == list(weights[1])  # type: ignore[arg-type]


def test_counts_are_answered_as_means(tmp_path: Path, libraries: type[Noting]) -> None:
    """Of a deviance CatBoost is asked for the exponential of its score, as LightGBM answers by itself."""
    data = table(tmp_path, objective="poisson")
    boosters.catboost(data)
    boosters.catboost(table(tmp_path))
    assert [made.asked["prediction_type"] for made in libraries.made] == ["Exponent", "RawFormulaVal"]
    assert [made.options["loss_function"] for made in libraries.made] == ["Poisson", "RMSE"]


def test_classes_get_probabilities_and_several_targets_a_model_each(tmp_path: Path, libraries: type[Noting]) -> None:
    """Probabilities [rows, classes]; values [rows, targets]."""
    classes = table(tmp_path, target="k")
    several = table(tmp_path, target="y,z", drop=())
    for method in (boosters.lightgbm, boosters.catboost):
        assert method(classes).shape == (len(classes.split.test), 2)
        assert method(several).shape == (len(several.split.test), 2)
    assert len(libraries.made) == 6
    assert "objective" not in libraries.made[0].options
