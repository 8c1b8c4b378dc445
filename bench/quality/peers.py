"""The peers, each with its defaults: fitted on the training rows, stopped on validation, answering for the test rows.

A method returns [rows, classes] probabilities or [rows] values. Libraries load when their method is asked for.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from bench.quality.tables import Split

ROUNDS = 50  # boosting rounds without a better validation loss before stopping
MOST_ROUNDS = 2_000
THREADS = 1  # of every peer, and of ours: fit times can then be compared


def answer(model: object, frame: pd.DataFrame, split: Split) -> np.ndarray:
    """Probabilities or values of a fitted scikit-learn model."""
    method = "predict" if split.task == "regression" else "predict_proba"
    return np.asarray(getattr(model, method)(frame))


def with_columns(split: Split, model: object) -> object:
    """Return a pipeline that standardises numbers and one-hot encodes categories before `model`."""
    numeric = [name for name in split.frame if name not in split.categorical]
    numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    categories = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="missing", missing_values=None),
        OneHotEncoder(handle_unknown="ignore", min_frequency=5),
    )
    return make_pipeline(make_column_transformer((numbers, numeric), (categories, list(split.categorical))), model)


def sklearn_fit(split: Split, model: object) -> np.ndarray:
    """Fit a scikit-learn model on the training rows alone."""
    pipeline = with_columns(split, model)
    frame = split.frame
    pipeline.fit(frame.iloc[split.train], split.y[split.train])  # type: ignore[attr-defined]
    return answer(pipeline, frame.iloc[split.test], split)


def constant(split: Split) -> np.ndarray:
    """Answer with the class shares, or the mean."""
    return sklearn_fit(split, DummyRegressor() if split.task == "regression" else DummyClassifier(strategy="prior"))


def linear(split: Split) -> np.ndarray:
    """Ridge or logistic regression."""
    return sklearn_fit(split, Ridge() if split.task == "regression" else LogisticRegression(max_iter=1_000))


def mlp(split: Split) -> np.ndarray:
    """scikit-learn's own network, with its early stopping."""
    kind = MLPRegressor if split.task == "regression" else MLPClassifier
    return sklearn_fit(split, kind(early_stopping=True, random_state=split.seed, max_iter=500))


def ordinal(split: Split) -> tuple[pd.DataFrame, list[bool]]:
    """Categories as codes (unseen and missing ones as NaN), and which columns are categories."""
    frame = split.frame.copy()
    names = list(split.categorical)
    if names:
        encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan)
        frame[names] = encoder.fit(frame.iloc[split.train][names]).transform(frame[names])
        wide = [name for name in names if frame[name].nunique() > 250]
        return frame, [name in names and name not in wide for name in frame]
    return frame, [False] * frame.shape[1]


def histgb(split: Split) -> np.ndarray:
    """scikit-learn's histogram gradient boosting, stopped on our validation rows."""
    frame, categorical = ordinal(split)
    kind = HistGradientBoostingRegressor if split.task == "regression" else HistGradientBoostingClassifier
    model = kind(
        categorical_features=categorical,
        max_iter=MOST_ROUNDS,
        early_stopping=True,
        n_iter_no_change=ROUNDS,
        random_state=split.seed,
    )
    train, validation = frame.iloc[split.train], frame.iloc[split.validation]
    model.fit(train, split.y[split.train], X_val=validation, y_val=split.y[split.validation])
    return answer(model, frame.iloc[split.test], split)


def lightgbm(split: Split) -> np.ndarray:
    """LightGBM's defaults, stopped on validation."""
    import lightgbm as library

    frame, categorical = ordinal(split)
    kind = library.LGBMRegressor if split.task == "regression" else library.LGBMClassifier
    model = kind(n_estimators=MOST_ROUNDS, random_state=split.seed, n_jobs=THREADS, verbose=-1)
    columns = [name for name, is_category in zip(frame, categorical, strict=True) if is_category]
    frame[columns] = frame[columns].fillna(-1).astype(int).astype("category")
    train, validation = frame.iloc[split.train], frame.iloc[split.validation]
    model.fit(
        train,
        split.y[split.train],
        eval_set=[(validation, split.y[split.validation])],
        callbacks=[library.early_stopping(ROUNDS, verbose=False)],
    )
    return answer(model, frame.iloc[split.test], split)


def catboost(split: Split) -> np.ndarray:
    """CatBoost's defaults, stopped on validation."""
    import catboost as library

    frame = split.frame.copy()
    names = list(split.categorical)
    frame[names] = frame[names].fillna("missing")
    kind = library.CatBoostRegressor if split.task == "regression" else library.CatBoostClassifier
    model = kind(
        iterations=MOST_ROUNDS,
        random_seed=split.seed,
        thread_count=THREADS,
        allow_writing_files=False,
        verbose=False,
    )
    train, validation = frame.iloc[split.train], frame.iloc[split.validation]
    model.fit(
        train,
        split.y[split.train],
        cat_features=names,
        eval_set=(validation, split.y[split.validation]),
        early_stopping_rounds=ROUNDS,
    )
    return answer(model, frame.iloc[split.test], split)


def realmlp(split: Split) -> np.ndarray:
    """RealMLP-TD of pytabkit with its tuned defaults, best epoch on our validation rows."""
    from pytabkit import RealMLP_TD_Classifier, RealMLP_TD_Regressor

    return _of_pytabkit(split, RealMLP_TD_Regressor if split.task == "regression" else RealMLP_TD_Classifier)


def tabm(split: Split) -> np.ndarray:
    """TabM of pytabkit with its defaults, best epoch on our validation rows."""
    from pytabkit import TabM_D_Classifier, TabM_D_Regressor

    return _of_pytabkit(split, TabM_D_Regressor if split.task == "regression" else TabM_D_Classifier)


def _of_pytabkit(split: Split, kind: type[Any]) -> np.ndarray:
    model = kind(device="cpu", random_state=split.seed, n_threads=THREADS, verbosity=0)
    rows = np.concatenate([split.train, split.validation])
    held = np.arange(len(split.train), len(rows))
    frame = split.frame.fillna(split.frame.iloc[split.train].median(numeric_only=True))  # it takes no missing numbers
    names = list(split.categorical)
    frame[names] = frame[names].fillna("missing").astype("category")
    model.fit(frame.iloc[rows], split.y[rows], val_idxs=held, cat_col_names=names)
    return answer(model, frame.iloc[split.test], split)


PEERS: dict[str, Callable[[Split], np.ndarray]] = {
    "constant": constant,
    "linear": linear,
    "mlp": mlp,
    "histgb": histgb,
    "lightgbm": lightgbm,
    "catboost": catboost,
    "realmlp": realmlp,
    "tabm": tabm,
}
