"""The scikit-learn face: scikit-learn's own checks, data frames, weights, and the bits of the exported bundle."""

import json
import pickle
import pickletools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import estimator_checks_generator

from batchproof.service.bundle import reader as bundle
from batchproof.service.inference.engine import EngineOptions
from batchproof.service.inference.model import load
from batchproof.training.estimators.estimator import BatchNormMLPClassifier, BatchNormMLPRegressor

QUICK: dict[str, Any] = {"widths": (32,), "ensemble": 1, "encoding": "plain"}
QUICK |= {"epochs": 25, "threads": 1, "device": "cpu"}
SHARES = "rows that are repeated may be dealt to training and validation; a row with a weight is dealt once"
EXPECTED = {"check_sample_weight_equivalence_on_dense_data": SHARES}


def checks() -> Iterator[Any]:
    """Yield scikit-learn's checks, but for the one of array libraries, which the estimators do not claim to take."""
    for estimator in (BatchNormMLPClassifier(**QUICK), BatchNormMLPRegressor(**QUICK)):
        found = estimator_checks_generator(estimator, mark="xfail", expected_failed_checks=EXPECTED)
        yield from (one for one in found if "check_array_api_input" not in str(one))


@pytest.mark.parametrize(
    "estimator, check", list(checks()), ids=lambda one: getattr(getattr(one, "func", one), "__name__", "")
)
def test_scikit_learns_checks(estimator: Any, check: Callable[[Any], None]) -> None:
    """Each of scikit-learn's checks passes, but for the one that is explained."""
    if getattr(check, "func", check).__name__ == "check_class_weight_classifiers":
        estimator.set_params(epochs=100)  # of 50 rows: 25 epochs are 25 steps, too few to follow any weights
    check(estimator)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Numbers, text with missing values, dates, and classes that follow from them."""
    random = np.random.default_rng(0)
    size, colour = random.normal(size=200), random.choice(["red", "green", "blue"], 200).astype(object)
    colour[::17] = None
    day = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(200), "D")
    kind = np.where(size + (colour == "red") > 0.5, "big", "small")
    return pd.DataFrame({"size": size, "colour": colour, "day": day, "kind": kind})


@pytest.fixture(scope="module")
def fitted(frame: pd.DataFrame) -> BatchNormMLPClassifier:
    """Return a classifier that is fitted to the frame."""
    return BatchNormMLPClassifier(**QUICK, date=("day",)).fit(frame[["size", "colour", "day"]], frame["kind"])


def test_a_fitted_classifier_names_what_it_takes(fitted: BatchNormMLPClassifier) -> None:
    """Classes and features are those of the frame."""
    assert fitted.classes_.tolist() == ["big", "small"]
    assert fitted.feature_names_in_.tolist() == ["size", "colour", "day"]
    assert fitted.n_features_in_ == 3


def test_pandas_and_polars_agree(frame: pd.DataFrame, fitted: BatchNormMLPClassifier) -> None:
    """A polars frame of the same rows gets the same bits, in fitting and in answering."""
    features = frame[["size", "colour", "day"]]
    wanted = fitted.predict_proba(features)
    as_polars = pl.from_pandas(features)
    again = clone(fitted).fit(as_polars, pl.from_pandas(frame["kind"]))

    assert fitted.predict_proba(as_polars).tobytes() == wanted.tobytes()
    assert again.predict_proba(as_polars).tobytes() == wanted.tobytes()
    assert fitted.score(features, frame["kind"]) > 0.8


def test_the_bundle_gives_the_estimators_bits(
    frame: pd.DataFrame, fitted: BatchNormMLPClassifier, tmp_path: Path
) -> None:
    """What the service answers from the exported bundle is what predict_proba said before, bit for bit."""
    folder = fitted.export(tmp_path, "kinds")
    model = load(bundle.read(folder), EngineOptions(device="cpu"), run_rows=1024)
    plain = frame.drop(columns="kind").astype({"day": str}).astype(object)
    rows = plain.where(plain.notna(), None).to_numpy().tolist()
    encoded = model.encoder.encode_rows(json.loads(json.dumps(rows)))
    (served,) = model.runner.run([encoded.arrays])

    assert encoded.errors == []
    assert served["probabilities"].tobytes() == fitted.predict_proba(frame.drop(columns="kind")).tobytes()
    assert model.manifest.metrics["part"] == "validation"


def test_a_pickle_names_batchproof_alone(fitted: BatchNormMLPClassifier) -> None:
    """A pickle names our modules by `batchproof.…`, so that it opens wherever the package is installed."""
    texts = {argument for _, argument, _ in pickletools.genops(pickle.dumps(fitted)) if isinstance(argument, str)}

    assert "batchproof.training.estimators.estimator" in texts
    assert {text for text in texts if text.startswith(("service.", "training."))} == set()


def test_a_pickled_estimator_answers_and_exports(
    frame: pd.DataFrame, fitted: BatchNormMLPClassifier, tmp_path: Path
) -> None:
    """A pickle starts its engine anew, gives the same bits, and exports the same graph."""
    copied = pickle.loads(pickle.dumps(fitted))
    features = frame.drop(columns="kind")

    assert copied.predict_proba(features).tobytes() == fitted.predict_proba(features).tobytes()
    files = [made.export(tmp_path / name, "kinds") / "model.onnx" for name, made in (("a", fitted), ("b", copied))]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_weight_moves_the_fit() -> None:
    """Where equal rows disagree about the class, the heavier ones win; a row of weight 0 is as if it were not there."""
    x = np.zeros((120, 2)) + np.arange(120)[:, None] % 4
    y = np.arange(120) // 4 % 2
    heavy = np.where(y == 1, 9.0, 1.0)
    model = BatchNormMLPClassifier(**QUICK)

    ones, zeros, even = (model.fit(x, y, w).predict_proba(x)[:, 1].mean() for w in (heavy, 10 - heavy, np.ones(120)))
    assert (ones > 0.7, zeros < 0.3) == (True, True)
    assert even == pytest.approx(0.5, abs=0.1)
    without = model.fit(x[y == 1][:40].repeat(1, 0), np.arange(40) % 2).predict_proba(x)
    padded = model.fit(np.vstack([x[y == 1][:40], x]), np.r_[np.arange(40) % 2, y], np.r_[np.ones(40), np.zeros(120)])
    assert padded.predict_proba(x).tobytes() == without.tobytes()


def test_a_grid_is_searched(frame: pd.DataFrame) -> None:
    """Grid search clones, fits each setting on folds of the frame and refits the best."""
    search = GridSearchCV(
        BatchNormMLPClassifier(**{**QUICK, "epochs": 80}), {"widths": [(4,), (16, 8)], "dropout": [0.0]}, cv=2
    )
    search.fit(frame[["size", "colour"]], frame["kind"])

    assert search.best_score_ > 0.7
    assert search.best_estimator_.model_.fitted.chosen["network"]["widths"] == search.best_params_["widths"]


def test_a_regressor_answers_in_the_targets_unit(frame: pd.DataFrame) -> None:
    """Values far from zero come back in their own unit; an infinite one is refused by name."""
    y = 1e6 + 1e3 * frame["size"]
    model = BatchNormMLPRegressor(**QUICK, test_share=0.2).fit(frame[["size"]], y)

    assert model.score(frame[["size"]], y) > 0.9
    assert model.model_.data.evaluation_part == "test"
    with pytest.raises(ValueError, match="infinity"):
        model.fit(frame[["size"]], y.where(y.index > 0, np.inf))


def test_what_recurs_with_a_date_is_found() -> None:
    """Weekends are dozens of turns in the seconds of a year, and one step in the calendar's part."""
    hours = np.random.default_rng(0).permutation(24 * 365)[:1_500]
    dates = pd.DataFrame({"when": pd.Timestamp("2023-01-01") + pd.to_timedelta(hours, "h")})
    is_weekend = dates["when"].dt.day_of_week >= 5
    model = BatchNormMLPClassifier(widths=(16,), ensemble=1, epochs=15, encoding="bins", random_state=0)
    assert model.fit(dates, is_weekend).score(dates, is_weekend) > 0.99


def test_a_column_that_is_gone_is_named(frame: pd.DataFrame, fitted: BatchNormMLPClassifier) -> None:
    """A frame without a feature is refused with the names that were seen in fitting."""
    with pytest.raises(ValueError, match="colour"):
        fitted.predict(frame[["size", "day"]])


def test_a_batch_without_any_value_is_answered(frame: pd.DataFrame, fitted: BatchNormMLPClassifier) -> None:
    """A column that is missing in every new row is missing, whatever type the frame gives it."""
    rows = frame.drop(columns="kind").head(3)
    wanted = fitted.predict_proba(rows.assign(colour=pd.Series([None] * 3, dtype=object)))

    for missing in (None, np.nan, pd.NA, pd.NaT, pd.Series([None] * 3, dtype="string")):
        assert fitted.predict_proba(rows.assign(colour=missing)).tobytes() == wanted.tobytes()


REFUSED = [
    ("size", np.inf, "expected a finite number"),
    ("size", "1.5", "expected a number, got a string"),
    ("size", "1,5", "a number with a comma"),
    ("size", True, "expected a number, got a boolean"),
    ("size", None, "null is not allowed, because the feature was never missing in training"),
    ("size", pd.NA, "null is not allowed"),
    ("colour", 3, "expected a string, got a number"),
    ("day", "29.02.2024", "expected an ISO 8601 date"),
    ("day", 5, "expected an ISO 8601 date"),
    ("day", pd.NaT, "null is not allowed"),
]


@pytest.mark.parametrize(("name", "value", "words"), REFUSED)
def test_types_come_from_the_fit(
    frame: pd.DataFrame, fitted: BatchNormMLPClassifier, name: str, value: Any, words: str
) -> None:
    """A value that the exported bundle refuses is refused alone, first and last beside others, with its row and feature."""
    good = frame.drop(columns="kind").head(2).astype(object)
    bad = good.head(1).assign(**{name: pd.Series([value], dtype=object)})
    for place, rows in ((0, [bad]), (0, [bad, good]), (2, [good, bad])):
        with pytest.raises(ValueError, match=f"row {place}, feature '{name}': .*{words}"):
            fitted.predict_proba(pd.concat(rows))


def test_a_row_is_read_alike_beside_any_other(frame: pd.DataFrame, fitted: BatchNormMLPClassifier) -> None:
    """A row has the same bits alone and beside rows that give its columns other types."""
    rows = frame.drop(columns="kind").head(4)
    whole = rows.assign(size=np.array([1, 2, 3, 4], np.int8), colour="red")
    mixed = pd.concat([whole.astype(object), rows.assign(day=rows["day"].astype(str)).astype(object)])
    alone = [fitted.predict_proba(one) for one in (whole, rows)]

    assert fitted.predict_proba(mixed).tobytes() == np.vstack(alone).tobytes()


def test_a_missing_number_is_refused_in_arrays_too() -> None:
    """NaN where training saw no missing value is refused in an array as it is in a data frame and by the bundle."""
    x = np.arange(80.0).reshape(40, 2)
    model = BatchNormMLPRegressor(**QUICK).fit(x, x[:, 0])
    with pytest.raises(ValueError, match=r"row 1, feature 'x1': .*never missing in training"):
        model.predict([[1.0, 2.0], [1.0, np.nan]])


def test_a_mixed_column_is_named_in_fitting() -> None:
    """A column of several types cannot be fitted to, and the refusal names it and the types."""
    frame = pd.DataFrame({"a": [1.0, "x"] * 20})
    with pytest.raises(ValueError, match="column 'a' holds values of several types, float and str"):
        BatchNormMLPRegressor(**QUICK).fit(frame, np.arange(40.0))


def test_a_regressor_takes_no_text() -> None:
    """Classes as the target of a regression are refused with what takes them."""
    with pytest.raises(ValueError, match="y holds text: a regressor takes numbers; BatchNormMLPClassifier takes"):
        BatchNormMLPRegressor().fit(np.arange(40.0).reshape(20, 2), np.array(list("ab") * 10))


def test_an_unknown_encoding_is_a_value_error() -> None:
    """A setting that the command refuses is refused by the estimator alike."""
    with pytest.raises(ValueError, match="encoding is 'foo': use one of plain, bins, quantile, tree, waves"):
        BatchNormMLPRegressor(encoding="foo").fit(np.arange(40.0).reshape(20, 2), np.arange(20.0))


def test_class_weights_move_the_labels(frame: pd.DataFrame) -> None:
    """A class that counts ten times is predicted more often, by label or with NumPy's scalars as keys."""
    x, y = frame[["size"]], frame["kind"] == "big"
    chosen = [
        BatchNormMLPClassifier(**QUICK, class_weight=weight, metric="log_loss").fit(x, y).predict(x).sum()
        for weight in (None, {True: 10.0}, {np.bool_(True): 10})
    ]
    assert chosen[0] < chosen[1] == chosen[2]


def test_what_needs_classes_is_refused_for_numbers(frame: pd.DataFrame) -> None:
    """A regressor has no class weights, and a metric must be of the target; both sentences name parameters."""
    with pytest.raises(ValueError, match=r"^class_weight needs classes, but the target 'size' is a number"):
        BatchNormMLPRegressor(**QUICK, class_weight="balanced").fit(frame[["colour"]], frame["size"])
    with pytest.raises(
        ValueError, match=r"^metric rmse is for a target of a number, but 'kind' has 2 classes: use one of"
    ):
        BatchNormMLPClassifier(**QUICK, metric="rmse").fit(frame[["size"]], frame["kind"])


def test_groups_and_times_decide_the_split(frame: pd.DataFrame) -> None:
    """Groups stay on one side of the split and times in order; what cannot be a group or a time is refused."""
    x, y = frame[["size"]], frame["kind"]
    quick = {**QUICK, "epochs": 1, "test_share": 0.2}
    groups = np.repeat([f"g{number}" for number in range(40)], 5)
    split = BatchNormMLPClassifier(**quick).fit(x, y, groups=groups).model_.data.split
    sides = [set(groups[part]) for part in split]
    assert sum(map(len, sides)) == 40
    split = BatchNormMLPClassifier(**quick).fit(x, y, times=frame["day"][::-1]).model_.data.split
    assert split.train.min() > split.validation.max() > split.validation.min() > split.test.max()

    for given, sentence in (
        ({"groups": groups, "times": frame["day"]}, "groups and times both say how rows are split"),
        ({"groups": groups[:3]}, "groups has 3 values for 200 rows"),
        ({"times": groups}, "time names 'times', which cannot be read as a time"),
        ({"groups": np.zeros(200)}, "the group 'groups' has one value in every row"),
    ):
        with pytest.raises(ValueError, match=sentence):
            BatchNormMLPClassifier(**quick).fit(x, y, **given)


def test_several_targets(tmp_path: Path) -> None:
    """A data frame of targets is fitted by one network, whose bundle answers the very numbers that predict returns, by their names."""
    random = np.random.default_rng(0)
    rows = pd.DataFrame(random.normal(size=(200, 3)), columns=list("abc"))
    targets = pd.DataFrame({"h": rows.a * 2 + 1, "w": rows.b * 1e5})
    weight = np.r_[np.zeros(20), np.ones(180)]
    model = BatchNormMLPRegressor(**QUICK).fit(rows, targets, sample_weight=weight)
    found = model.predict(rows)
    assert (found.shape, found.dtype) == ((200, 2), np.float64)
    assert model.score(rows, targets) > 0.5
    assert (model.predict(rows[::-1])[::-1] == found).all()
    served = load(bundle.read(model.export(tmp_path)), EngineOptions(device="cpu"), 64)
    assert served.manifest.name == "h-w"
    answers = served.decoder.decode(served.runner.run([served.encoder.encode_rows(rows.to_dict("records")).arrays])[0])
    assert (np.array([list(one["values"].values()) for one in answers], np.float32) == found).all()
    assert list(answers[0]["values"]) == ["h", "w"]


def test_names_of_targets() -> None:
    """An array's targets are numbered; a frame's names are kept where no column has them."""
    random = np.random.default_rng(0)
    rows, targets = random.normal(size=(60, 2)), random.normal(size=(60, 2))
    plain = BatchNormMLPRegressor(**{**QUICK, "epochs": 1})
    assert plain.fit(rows, targets).model_.data.target.names == ("target0", "target1")
    frame = pd.DataFrame(rows, columns=["a", "target0"])
    assert plain.fit(frame, pd.DataFrame(targets, columns=["a", "b"])).model_.data.target.names == (
        "target_0",
        "target_1",
    )


@pytest.mark.parametrize("given", [{"quantiles": (0.1, 0.9)}, {"objective": "poisson"}])
def test_what_several_targets_cannot_have(given: dict[str, Any]) -> None:
    """Quantiles and other objectives are for one target, said by the parameter's name."""
    random = np.random.default_rng(0)
    with pytest.raises(ValueError, match=f"^{next(iter(given))} is for one target, but there are 2: leave it out"):
        BatchNormMLPRegressor(**QUICK, **given).fit(random.normal(size=(60, 2)), random.normal(size=(60, 2)))


def test_a_classifier_takes_one_target() -> None:
    """Several columns of classes are refused, in scikit-learn's words."""
    random = np.random.default_rng(0)
    with pytest.raises(ValueError, match="y should be a 1d array, got an array of shape"):
        BatchNormMLPClassifier(**QUICK).fit(random.normal(size=(60, 2)), random.integers(0, 2, (60, 2)))
