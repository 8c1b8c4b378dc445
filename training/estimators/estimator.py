"""The scikit-learn interface: fit on data frames or arrays, predict through the exported graph, export the bundle.

Predictions come from the very graph and engine that `batchproof serve` runs, so that they are, bit for bit, those of
the service; a row's prediction does not depend on the other rows.
"""

import re
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_array,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from batchproof.service.bundle.manifest import label_places
from batchproof.service.features.arrays import Outputs
from batchproof.training import pipeline, trained_model
from batchproof.training.data import leakage
from batchproof.training.data.target import Target, check_several
from batchproof.training.estimators import dataframe as frame
from batchproof.training.estimators import messages as parameters
from batchproof.training.evaluation.evaluate import evaluate
from batchproof.training.export import bundle_writer as bundle
from batchproof.training.export.destination import NAME, BundlePath
from batchproof.training.fit.progress import Progress, Silent
from batchproof.training.settings import SettingError, Settings, make
from batchproof.training.trained_model import Model

PLAIN = (
    *("validation_share", "rare_rows", "widths", "ensemble", "dropout", "eps", "momentum", "affine", "encoding"),
    *("quick", "epochs", "batch_rows", "learning_rate", "weight_decay", "patience"),
    *("objective", "metric", "device", "threads"),
)
COLUMNS = ("categorical", "date", "keep")


class BatchNormMLP(BaseEstimator, ABC):  # type: ignore[misc]  # scikit-learn ships no types
    """What classifier and regressor share.

    Parameters are settings of `batchproof-train` by the same names; None means: decided from the data. `quick` decides
    for a first model within seconds. A share of the rows, `validation_share`, decides when to stop and calibrates;
    `test_share` of them (none, unless asked for) only measures what the exported bundle then states. `objective` (regressors only) is "poisson" for counts or
    "gamma" for amounts above 0, whose mean is fitted by its logarithm. `quantiles` (regressors only) are levels such as
    (0.1, 0.5, 0.9), which `predict_quantiles` answers. `monotonic_cst`, as in scikit-learn, is {feature: 1, -1 or 0} or one of these a
    column: predictions, or the probability of the second of two classes, never fall (1) or never rise (-1). `class_weight`
    (classifiers only) is "balanced" or {class: weight}; classes that it leaves out count 1. `class_prior` (classifiers only) is
    {class: share} where the model will be used. `threshold` (two classes only) says from which probability of the second class on
    it is predicted: a number, or "f1", "balanced_accuracy" or "cost=FP:FN" to choose it on the validation rows. Fitting repeats to
    the bit for one number of threads.
    """

    def __init__(  # noqa: PLR0913 - scikit-learn reads the parameters from this signature
        self,
        *,
        widths: tuple[int, ...] | None = None,
        ensemble: int | None = None,
        dropout: float | None = None,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        encoding: str | None = None,
        quick: bool = False,
        epochs: int | None = None,
        batch_rows: int | None = None,
        learning_rate: float | None = None,
        weight_decay: float | None = None,
        patience: int | None = None,
        objective: str | None = None,
        quantiles: tuple[float, ...] | None = None,
        monotonic_cst: Any = None,
        metric: str | None = None,
        class_weight: str | dict[Any, float] | None = None,
        class_prior: dict[Any, float] | None = None,
        threshold: str | float | None = None,
        categorical: tuple[str, ...] = (),
        date: tuple[str, ...] = (),
        keep: tuple[str, ...] = (),
        rare_rows: int = 5,
        validation_share: float = 0.2,
        test_share: float = 0.0,
        random_state: int | np.random.RandomState | None = 0,
        arithmetic: str = "float32",
        device: str = "auto",
        threads: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.widths = widths
        self.ensemble, self.dropout = ensemble, dropout
        self.eps, self.momentum, self.affine = eps, momentum, affine
        self.encoding, self.quick = encoding, quick
        self.epochs = epochs
        self.batch_rows, self.learning_rate, self.weight_decay = batch_rows, learning_rate, weight_decay
        self.patience = patience
        self.objective, self.metric, self.quantiles, self.monotonic_cst = objective, metric, quantiles, monotonic_cst
        self.class_prior, self.class_weight, self.threshold = class_prior, class_weight, threshold
        self.categorical, self.date, self.keep, self.rare_rows = categorical, date, keep, rare_rows
        self.validation_share, self.test_share, self.random_state = validation_share, test_share, random_state
        self.arithmetic = arithmetic
        self.device, self.threads = device, threads
        self.verbose = verbose

    def fit(
        self,
        X: Any,  # noqa: N803 - scikit-learn's name
        y: Any,
        sample_weight: Any = None,
        *,
        groups: Any = None,
        times: Any = None,
    ) -> Self:
        """Fit to rows X (data frame, or array [rows, features]) and y [rows]; NaN and null are missing values.

        A regressor takes several targets too, y [rows, targets] as an array or a data frame, and then predicts all of them.
        `sample_weight` [rows], none negative, says how much each row's loss counts; a row of weight 0 is left out.
        Batch-norm statistics count every row that is left alike. `groups` [rows] keeps all rows of a group on one side of
        the split; `times` [rows], dates or numbers, validates and tests on rows after those that train. Raises ValueError
        in one sentence.
        """
        start_s = time.monotonic()
        given = _names_of(y)
        rows, y = self._checked(X, y)
        with parameters.named():
            keys = frame.keys_of(groups, times, len(y))
        weight = None
        if sample_weight is not None:
            weight = _check_sample_weight(sample_weight, y, dtype=np.float64, ensure_non_negative=True)
            kept = np.flatnonzero(weight > 0)
            rows, y, weight = rows.take(kept), y[kept], weight[kept]
            keys = None if keys is None else keys.take(kept)
        targets = frame.target_names(given, y.shape[1] if y.ndim > 1 else 1, rows.column_names)
        with parameters.named():
            settings = self._settings(",".join(targets), rows.column_names)
            if len(targets) > 1:
                check_several(targets, settings)
            data = frame.data_of(rows, self._goal(y, targets), settings, weight, keys)
            self.model_: Model = pipeline.fit(data, settings, Progress() if self.verbose else Silent())
        self.fit_seconds_ = time.monotonic() - start_s
        return self

    def export(self, folder: str | Path, name: str | None = None, version: int | None = None) -> Path:
        """Write the bundle <folder>/<name>/<version>/ and return that folder; `batchproof serve --models <folder>`.

        `name` is the target's where it is left out, `version` one more than the newest there. Without `test_share`
        the bundle's metrics are those of the validation rows, and say so. Raises SettingError or WriteError.
        """
        check_is_fitted(self, "model_")
        name = name or re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(self.model_.data.target.names)).strip(".-_")[:100]
        if not NAME.fullmatch(name):
            raise SettingError(f"{name!r} cannot name a model: use letters, digits, '.', '_' and '-'.")
        place = BundlePath(Path(folder), name, version or bundle.next_version(Path(folder), name))
        data = self.model_.data
        findings = leakage.find(data.signature, data.arrays, data.target, data.split)
        return trained_model.write(
            self.model_,
            evaluate(data.measured(), self.model_.compiled, self.model_.decided),
            findings,
            place,
            self.fit_seconds_,
        )

    takes_several = False  # whether y may have several columns

    @abstractmethod
    def _goal(self, y: np.ndarray, names: tuple[str, ...]) -> Target:
        """Return the target that y [rows] or [rows, targets] describes, under the targets' names."""

    def _checked(self, X: Any, y: Any) -> tuple[Any, np.ndarray]:  # noqa: N803
        """Return the rows as an Arrow table, and y [rows] or [rows, targets]; keeps the feature names and their number."""
        if not frame.is_frame(X):
            several = np.asarray(y).shape[1:] not in ((), (1,)) and self.takes_several
            array, y = validate_data(
                self,
                X,
                y,
                dtype=np.float64,
                ensure_all_finite="allow-nan",
                ensure_min_samples=frame.LEAST_ROWS,
                multi_output=several,
            )
            return frame.arrow_of(array), y
        validate_data(self, X, skip_check_array=True)
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        y = check_array(y, ensure_2d=False, dtype=None, input_name="y")
        if not (self.takes_several and y.ndim == 2 and y.shape[1] > 1):
            y = column_or_1d(y, warn=True)
        arrow = frame.arrow_of(X)
        check_consistent_length(np.empty(arrow.num_rows), y)
        return arrow, y

    def _outputs(self, X: Any) -> Outputs:  # noqa: N803
        """Return the served graph's outputs for new rows."""
        check_is_fitted(self, "model_")
        if frame.is_frame(X):
            validate_data(self, X, skip_check_array=True, reset=False)
            rows = self._named(X)
        else:
            rows = validate_data(self, X, reset=False, dtype=np.float64, ensure_all_finite="allow-nan")
            rows = frame.arrow_of(rows).rename_columns(list(self.model_.data.table.names))
        with parameters.named():
            return self.model_.run(frame.encode(self.model_.data.signature, rows))

    def _named(self, rows: Any) -> Any:
        """Return a data frame whose columns have the names of the fit, also where that was given an array."""
        names = list(self.model_.data.table.names)
        arrived = frame.names_of(rows)
        return rows if set(names) <= set(arrived) else frame.arrow_of(rows).rename_columns(names)

    def _settings(self, target: str, names: list[str]) -> Settings:
        seed = self.random_state
        if not isinstance(seed, int | np.integer):
            seed = check_random_state(seed).randint(2**31)
        given = {name: getattr(self, name) for name in PLAIN}
        given |= {name: tuple(getattr(self, name)) for name in COLUMNS}
        given |= {"target": target, "seed": int(seed), "arithmetic": self.arithmetic}
        given |= {name: frame.by_class_text(getattr(self, name)) for name in ("class_weight", "class_prior")}
        given |= {"quantiles": None if self.quantiles is None else ",".join(map(str, self.quantiles))}
        given |= {"threshold": None if self.threshold is None else str(self.threshold)}
        given |= frame.constraints_of(self.monotonic_cst, names)
        if self.test_share:
            return make({**given, "test_share": self.test_share})
        return Settings(**{**make(given).__dict__, "test_share": 0.0})

    def __sklearn_tags__(self) -> Any:
        """Missing values are accepted; text and dates too, in data frames."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


class BatchNormMLPClassifier(ClassifierMixin, BatchNormMLP):  # type: ignore[misc]
    """A batch-norm MLP for two classes or more; y may hold text, whole numbers or booleans."""

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the probability of each class in the order of `classes_`, [rows, classes] float32."""
        return self._outputs(X)["probabilities"]

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return each row's most probable class [rows], or its class by the threshold, as the service labels it."""
        probabilities, decided = self.predict_proba(X), self.model_.decided
        places = label_places(probabilities, None if decided is None else decided.decision)
        chosen: np.ndarray = self.classes_[places]
        return chosen

    def _goal(self, y: np.ndarray, names: tuple[str, ...]) -> Target:
        check_classification_targets(y)
        self.classes_, goal = frame.classes_of(y, names[0])
        return goal


class BatchNormMLPRegressor(RegressorMixin, BatchNormMLP):  # type: ignore[misc]
    """A batch-norm MLP for one number, or for several at once."""

    takes_several = True

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return each row's value in the target's own unit [rows] float32.

        Of several targets they are [rows, targets] float64, as scikit-learn asks of its regressors: the float32 numbers, widened.
        """
        values = self._outputs(X)["value"]
        return values.astype(np.float64) if self.model_.data.target.several else values[:, 0]

    def predict_quantiles(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return each row's quantiles in the ascending order of their levels [rows, levels] float32.

        Raises AttributeError where the parameter `quantiles` asked for none.
        """
        outputs = self._outputs(X)
        if "quantiles" not in outputs:
            raise AttributeError("this model has no quantiles: fit it with quantiles=(0.1, 0.5, 0.9), or others.")
        return outputs["quantiles"]

    def _goal(self, y: np.ndarray, names: tuple[str, ...]) -> Target:
        return frame.values_of(y, names)

    def __sklearn_tags__(self) -> Any:
        """Several targets are accepted."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _names_of(y: Any) -> list[Any]:
    """Return the names that a Series or a data frame gives its columns; none of an array."""
    if hasattr(y, "columns"):
        return list(y.columns)
    name = getattr(y, "name", None)
    return [] if name is None else [name]
