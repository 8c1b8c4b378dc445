"""What rows that were not trained on say of the served outputs: metrics, uncertainty, and what exactness cost."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from batchproof.training.data.dataset import Dataset
from batchproof.training.evaluation import conformal, metrics
from batchproof.training.export.compile import CompiledModel
from batchproof.training.export.exact import build as exact
from batchproof.training.export.exact.accuracy import reference_scores
from batchproof.training.network.fold import predictions


def metrics_of(data: Dataset, outputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the metrics of the served outputs on the judged rows, beside those of a constant guess."""
    y, train_y = data.y(data.judged), data.y("train")
    if data.goal.classes is None:
        found = metrics.regression(outputs["value"][:, 0], y, float(train_y.mean()))
    else:
        prior = np.bincount(train_y, minlength=len(data.goal.classes)) / len(train_y)
        found = metrics.classification(outputs["probabilities"], y, prior)
    told = {} if data.judged == "test" else {"part": data.judged}
    return {"rows": len(y), **told, **found}


def uncertainty(data: Dataset, outputs: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Any] | None:
    """Return conformal thresholds from the validation rows, tested on the test rows; None with too few rows."""
    name = "value" if data.goal.classes is None else "probabilities"
    held, test = (outputs[part][name] for part in ("validation", data.judged))
    if data.goal.classes is None:
        found = conformal.for_values(held[:, 0], data.y("validation"), test[:, 0], data.y(data.judged))
    else:
        found = conformal.for_classes(held, data.y("validation"), test, data.y(data.judged))
    if found is not None and data.judged != "test":
        found = found.model_copy(update={"tested": {}})  # rows that thresholds were taken from test nothing
    return None if found is None else found.model_dump(mode="json")


def arithmetic(data: Dataset, made: CompiledModel) -> dict[str, Any]:
    """Return bundle.json's `arithmetic`; of an exact graph with its certificate and its accuracy on the test rows."""
    if made.proved is None:
        return {"kind": "float32"}
    test = data.arrays[data.judged]
    stated = exact.arithmetic(made.proved, made.weights, made.runner, test)
    name = "value" if data.goal.classes is None else "probabilities"
    reference = predictions(reference_scores(made.weights, test), made.weights.folded.output)
    stated["accuracy"]["metrics"] = {
        "float64": metrics_of(data, {name: reference}),
        "exact": metrics_of(data, made.run(test)),
    }
    return stated
