"""The baselines: a constant, a linear model and scikit-learn's boosted trees, each with its defaults.

They count the rows as the network does: by their weights and those of their classes. Of monotone constraints, the trees keep
the same ones.
"""

from collections.abc import Callable
from dataclasses import replace

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
    return answers(pipeline, data)


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
        return np.stack([trees(replace(data, target=part)) for part in data.target.parts], axis=1)
    # a run without `compare` needs neither
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    numbers, codes = counts(data)
    is_value = data.target.classes is None
    kind = HistGradientBoostingRegressor if is_value else HistGradientBoostingClassifier
    model = kind(
        loss=data.target.objective if is_value else "log_loss",
        categorical_features=[False] * numbers + [count <= MOST_CODES for count in codes],
        monotonic_cst=[*data.directions.tolist(), *(0 for _ in codes)] if data.monotone else None,
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
    rows = joined(data.arrays["train"])
    # Threads that wait for one another at every split cost a small table many times the work itself.
    with threadpool_limits(1 if rows.size < LEAST_SHARED else None, user_api="openmp"):
        return answers(model.fit(rows, data.y("train"), data.weights("train"), **validation), data)


BASELINES: dict[str, Callable[[Dataset], np.ndarray]] = {
    "a constant": constant,
    "a linear model": linear,
    "boosted trees": trees,
}


def counts(data: Dataset) -> tuple[int, list[int]]:
    """Return how many numeric columns there are, and the number of codes of each categorical one."""
    categorical = data.signature.categorical
    return len(data.signature.numeric), [feature.code_count for feature in categorical]


def joined(arrays: Arrays) -> np.ndarray:
    """Return numbers and codes in one array [rows, columns] float64, as scikit-learn expects them."""
    parts = [part for part in (arrays.numeric, arrays.categorical) if part is not None]
    return np.concatenate(parts, axis=1, dtype=np.float64)


def answers(model: object, data: Dataset) -> np.ndarray:
    """Return probabilities [rows, classes], values [rows] or those of several targets [rows, targets] for the test rows."""
    method = "predict" if data.target.classes is None else "predict_proba"
    rows = data.arrays["test"]
    starts = range(0, len(data.y("test")), PIECE_ROWS)
    return np.concatenate(
        [getattr(model, method)(joined(rows.take(slice(start, start + PIECE_ROWS)))) for start in starts]
    )
