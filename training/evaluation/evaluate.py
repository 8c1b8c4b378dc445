"""Evaluation of the exported graph on held-out rows: metrics, uncertainty, and the accuracy of exact arithmetic."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from batchproof.service.bundle.manifest import Decision
from batchproof.service.features.arrays import Outputs
from batchproof.training.data.dataset import Dataset
from batchproof.training.evaluation import comparison, conformal, metrics, threshold
from batchproof.training.evaluation.threshold import Chosen
from batchproof.training.export.compile import CompiledModel
from batchproof.training.export.exact import build as exact
from batchproof.training.export.exact.accuracy import reference_scores
from batchproof.training.network.fold import outputs_of


@dataclass(frozen=True)
class Evaluation:
    """What bundle.json and the report say of a model's quality; the first three as JSON values."""

    metrics: dict[str, Any]
    uncertainty: dict[str, Any] | None
    arithmetic: dict[str, Any]
    baselines: Mapping[str, np.ndarray]  # answers for the evaluation rows: see `comparison.baseline_answers`
    warnings: tuple[str, ...]  # baselines that predict better, and a threshold of few rows, each with what to do
    decision: Decision | None  # which of two classes is the label
    outputs: Outputs  # of the exported graph, for the evaluation rows

    def summary(self) -> str:
        """Return the metrics in one line, for people."""
        values = {name: value for name, value in self.metrics.items() if isinstance(value, float)}
        part = self.metrics.get("part", "test")
        return f"{part} rows: " + ", ".join(f"{name} {value:.4g}" for name, value in values.items())


def evaluate(data: Dataset, compiled: CompiledModel, decided: Chosen | None = None) -> Evaluation:
    """Run the exported graph on the validation and the evaluation rows, and measure its outputs.

    `decided` is the threshold of two classes, if there is one.
    """
    outputs = {part: compiled.run(data.arrays[part]) for part in ("validation", data.evaluation_part)}
    decision = None if decided is None else decided.decision
    evaluated, baselines = outputs[data.evaluation_part], comparison.baseline_answers(data)
    return Evaluation(
        metrics_of(data, evaluated) | ({} if decision is None else threshold.measured(data, evaluated, decision)),
        uncertainty(data, outputs),
        arithmetic(data, compiled),
        baselines,
        (*comparison.lost_to(data, evaluated, baselines), *(() if decided is None else decided.warnings)),
        decision,
        evaluated,
    )


def metrics_of(data: Dataset, outputs: Outputs) -> dict[str, Any]:
    """Return the metrics of outputs for the evaluation rows, and those of a constant prediction.

    Each row counts once. With stated shares of the classes, `data` is `Dataset.measured`. Where rows have weights, the loss of the rows so weighted is there too.
    """
    part = data.evaluation_part
    y, train_y = data.y(part), data.y("train")
    if data.target.classes is None:
        measured: dict[str, Any] = metrics.regression(
            outputs["value"][:, 0], y, float(train_y.mean()), metrics.loss_of(data.target)
        )
        if data.target.quantiles:
            measured |= metrics.quantiles(outputs["quantiles"], y, train_y, data.target.quantiles)
    else:
        shares = np.bincount(train_y, minlength=len(data.target.classes)) / len(train_y)
        prior = shares if data.prior is None else data.prior.shares
        measured = {**metrics.classification(outputs["probabilities"], y, prior)}
        if data.prior is not None:
            measured["class_prior"] = data.prior.named(data.target)
    weight = data.row_weights(part)
    if weight is not None:
        answers = outputs["value"][:, 0] if data.target.classes is None else outputs["probabilities"]
        loss = metrics.loss_of(data.target)
        measured[f"weighted_{loss.key}"] = loss.total(loss.of_rows(answers, y), weight)
    return {"rows": len(y), **({} if part == "test" else {"part": part}), **measured}


def uncertainty(data: Dataset, outputs: Mapping[str, Outputs]) -> dict[str, Any] | None:
    """Return conformal thresholds from the validation rows, tested on the test rows; None with too few rows."""
    part = data.evaluation_part
    if data.target.classes is None:
        validation, test = (outputs[name]["value"][:, 0] for name in ("validation", part))
        thresholds = conformal.for_values(validation, data.y("validation"), test, data.y(part))
    else:
        validation, test = (outputs[name]["probabilities"] for name in ("validation", part))
        thresholds = conformal.for_classes(validation, data.y("validation"), test, data.y(part))
    if thresholds is not None and part != "test":
        thresholds = thresholds.model_copy(update={"tested": {}})  # their own rows would test nothing
    return None if thresholds is None else thresholds.model_dump(mode="json")


def arithmetic(data: Dataset, compiled: CompiledModel) -> dict[str, Any]:
    """Return bundle.json's `arithmetic`; of an exact graph with its certificate and its accuracy on the test rows."""
    if compiled.proved is None:
        return {"kind": "float32"}
    rows = data.arrays[data.evaluation_part]
    stated = exact.arithmetic(compiled.proved, compiled.weights, compiled.runner, rows)
    reference = outputs_of(reference_scores(compiled.weights, rows), compiled.weights.folded.output)
    stated["accuracy"]["metrics"] = {
        "float64": metrics_of(data, reference),
        "exact": metrics_of(data, compiled.run(rows)),
    }
    return stated
