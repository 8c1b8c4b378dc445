"""The baselines: a constant, a linear model and scikit-learn's boosted trees, each with its defaults.

They count the rows as the network does: by their weights and those of their classes. Of monotone constraints, the trees keep
the same ones.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import GammaRegressor, LogisticRegression, PoissonRegressor, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from batchproof.service.features.arrays import Arrays
from batchproof.training.data.dataset import Dataset

ROUNDS = 50  # boosting rounds without a better validation loss before trees stop
MOST_ROUNDS = 1_000
LEAST_SHARED = 200_000  # values in the training rows; below, one thread grows the trees
PIECE_ROWS = 16_384  # that are predicted together: bounds the copies that scikit-learn makes
MOST_CODES = 255  # the largest number of categories that the trees treat as categories


def constant(data: Dataset) -> np.ndarray:
    """Predict the class shares or the mean of the training rows, as far as each counts, for every test row."""
    y, weight = data.y("train"), data.weights("train")
    prediction = np.average(y, axis=0, weights=weight)
    if data.target.classes is not None:
        sums = np.bincount(y, weight, len(data.target.classes))
        prediction = sums / sums.sum()
    return np.broadcast_to(prediction, (len(data.y("test")), *np.shape(prediction)))


def linear(data: Dataset) -> np.ndarray:
    """Predict with a generalised linear model of the objective on standardised numbers and one-hot categories."""
    model = _linear_model(data)
    numbers, codes = counts(data)
    imputer = SimpleImputer(strategy="median", add_indicator=True, copy=False)  # columns are picked as a copy
    numeric = make_pipeline(imputer, StandardScaler(copy=False))
    columns = make_column_transformer(
        (numeric, list(range(numbers))),
        (OneHotEncoder(handle_unknown="ignore"), list(range(numbers, numbers + len(codes)))),
    )
    pipeline = Pipeline([("columns", columns), ("model", model)])
    pipeline.fit(joined(data.arrays["train"]), data.y("train"), model__sample_weight=data.weights("train"))
    return answers(predictor(pipeline, data), data)


def _linear_model(data: Dataset) -> Ridge | LogisticRegression | PoissonRegressor | GammaRegressor:
    if data.target.classes is not None:
        return LogisticRegression(max_iter=1_000)
    if data.target.objective == "squared_error":
        return Ridge()
    kind = PoissonRegressor if data.target.objective == "poisson" else GammaRegressor
    return kind(alpha=1.0 / len(data.split.train), max_iter=1_000)  # the penalty of Ridge: 1 for the sum of all rows


def trees(data: Dataset) -> np.ndarray:
    """Predict with histogram gradient boosting, stopped on the validation rows; with a model for each of several targets."""
    if data.target.several:
        return each_target(trees, data)
    # a run without `compare` needs neither
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    numbers, codes = counts(data)
    is_value = data.target.classes is None
    kind = HistGradientBoostingRegressor if is_value else HistGradientBoostingClassifier
    model = kind(
        loss=data.target.objective if is_value else "log_loss",
        categorical_features=[False] * numbers + [count <= MOST_CODES for count in codes],
        monotonic_cst=directions(data),
        max_iter=MOST_ROUNDS,
        early_stopping=True,
        n_iter_no_change=ROUNDS,
        random_state=0,
    )
    validation = {
        "X_val": joined(data.arrays["validation"]),
        "y_val": data.y("validation"),
        "sample_weight_val": data.weights("validation"),
    }
    with threadpool_limits(most_threads(data), user_api="openmp"):
        model.fit(joined(data.arrays["train"]), data.y("train"), data.weights("train"), **validation)
        return answers(predictor(model, data), data)


BASELINES: dict[str, Callable[[Dataset], np.ndarray]] = {
    "a constant": constant,
    "a linear model": linear,
    "boosted trees": trees,
}


def counts(data: Dataset) -> tuple[int, list[int]]:
    """Return how many numeric columns there are, and the number of codes of each categorical one."""
    categorical = data.signature.categorical
    return len(data.signature.numeric), [feature.code_count for feature in categorical]


def most_threads(data: Dataset) -> int | None:
    """Return one for a small table, where threads would wait for one another at every split; None: as many as there are."""
    numbers, codes = counts(data)
    return 1 if len(data.split.train) * (numbers + len(codes)) < LEAST_SHARED else None


def directions(data: Dataset) -> list[int] | None:
    """Return 1, -1 or 0 for each column, numbers before categories; None without constraints."""
    _, codes = counts(data)
    return [*data.directions.tolist(), *(0 for _ in codes)] if data.monotone else None


def each_target(method: Callable[[Dataset], np.ndarray], data: Dataset) -> np.ndarray:
    """Return what a method predicts of each of several targets, fitted by itself [rows, targets]."""
    return np.stack([method(replace(data, target=part)) for part in data.target.parts], axis=1)


def joined(arrays: Arrays) -> np.ndarray:
    """Return numbers and codes in one array [rows, columns] float64, as scikit-learn expects them."""
    parts = [part for part in (arrays.numeric, arrays.categorical) if part is not None]
    return np.concatenate(parts, axis=1, dtype=np.float64)


def predictor(model: Any, data: Dataset) -> Callable[[Any], np.ndarray]:
    """Return the method of a fitted model that gives probabilities of classes, or values."""
    method: Callable[[Any], np.ndarray] = model.predict if data.target.classes is None else model.predict_proba
    return method


def answers(predict: Callable[[Any], np.ndarray], data: Dataset, form: Callable[[Arrays], Any] = joined) -> np.ndarray:
    """Return probabilities [rows, classes], values [rows] or those of several targets [rows, targets] for the test rows.

    `form` makes of rows what `predict` takes.
    """
    rows = data.arrays["test"]
    starts = range(0, len(data.y("test")), PIECE_ROWS)
    return np.concatenate([predict(form(rows.take(slice(start, start + PIECE_ROWS)))) for start in starts])
