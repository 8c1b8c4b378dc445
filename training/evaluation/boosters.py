"""LightGBM and CatBoost with their defaults, where they are installed: what else a table's owner would try.

They are stopped and weighed as scikit-learn's trees are, and keep the same monotone constraints.
"""

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from batchproof.service.features.arrays import Arrays
from batchproof.training.data.dataset import Dataset
from batchproof.training.evaluation.baselines import (
    MOST_ROUNDS,
    ROUNDS,
    answers,
    counts,
    directions,
    each_target,
    joined,
    most_threads,
    predictor,
)

Baseline = Callable[[Dataset], np.ndarray]
OBJECTIVES = {  # of values, in each library's words
    "lightgbm": {"squared_error": "regression", "poisson": "poisson", "gamma": "gamma"},
    "catboost": {"squared_error": "RMSE", "poisson": "Poisson"},  # it has no gamma deviance
}


def installed(data: Dataset) -> dict[str, Baseline]:
    """Return the libraries that are installed and can fit what `data` asks for, by their names."""
    found: dict[str, Baseline] = {"LightGBM": lightgbm, "CatBoost": catboost}
    return {
        name: method
        for name, method in found.items()
        if find_spec(name.lower()) is not None and data.target.objective in OBJECTIVES[name.lower()]
    }


def lightgbm(data: Dataset) -> np.ndarray:
    """Predict the test rows with LightGBM; with a model for each of several targets."""
    if data.target.several:
        return each_target(lightgbm, data)
    library = import_module("lightgbm")
    numbers, codes = counts(data)
    model = _kind(library, data, "LGBM")(
        n_estimators=MOST_ROUNDS,
        n_jobs=most_threads(data),
        random_state=0,
        verbose=-1,
        monotone_constraints=directions(data),
        **({} if _is_classes(data) else {"objective": OBJECTIVES["lightgbm"][data.target.objective]}),
    )
    weight = data.weights("validation")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that other versions of the library do not know yet
        model.fit(
            joined(data.arrays["train"]),
            data.y("train"),
            sample_weight=data.weights("train"),
            eval_set=[(joined(data.arrays["validation"]), data.y("validation"))],
            eval_sample_weight=None if weight is None else [weight],
            categorical_feature=list(range(numbers, numbers + len(codes))),
            callbacks=[library.early_stopping(ROUNDS, verbose=False)],
        )
        return answers(predictor(model, data), data)


def catboost(data: Dataset) -> np.ndarray:
    """Predict the test rows with CatBoost; with a model for each of several targets."""
    if data.target.several:
        return each_target(catboost, data)
    library = import_module("catboost")
    _, codes = counts(data)
    loss = {} if _is_classes(data) else {"loss_function": OBJECTIVES["catboost"][data.target.objective]}
    constraints = directions(data)
    model = _kind(library, data, "CatBoost")(
        iterations=MOST_ROUNDS,
        thread_count=most_threads(data) or -1,
        random_seed=0,
        allow_writing_files=False,
        verbose=False,
        **loss,
        **({} if constraints is None else {"monotone_constraints": constraints}),
    )
    categories = [f"c{place}" for place in range(len(codes))]

    def pool(part: str) -> Any:
        return library.Pool(_frame(data.arrays[part]), data.y(part), categories, weight=data.weights(part))

    model.fit(pool("train"), eval_set=pool("validation"), early_stopping_rounds=ROUNDS)
    if _is_classes(data):
        return answers(predictor(model, data), data, _frame)
    kind = "RawFormulaVal" if data.target.objective == "squared_error" else "Exponent"
    return answers(lambda rows: model.predict(rows, prediction_type=kind), data, _frame)


def _is_classes(data: Dataset) -> bool:
    return data.target.classes is not None


def _kind(library: Any, data: Dataset, prefix: str) -> Any:
    return getattr(library, f"{prefix}{'Classifier' if _is_classes(data) else 'Regressor'}")


def _frame(arrays: Arrays) -> Any:
    """Return the rows as a data frame, in which codes are whole numbers, as CatBoost asks of categories."""
    columns: Mapping[str, np.ndarray | None] = {"n": arrays.numeric, "c": arrays.categorical}
    parts = {
        f"{kind}{place}": part[:, place]
        for kind, part in columns.items()
        if part is not None
        for place in range(part.shape[1])
    }
    return import_module("pandas").DataFrame(parts)
