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
    uncertainties: list[dict[str, Any]] | None  # in its place where there are several targets
    arithmetic: dict[str, Any]
    baselines: Mapping[str, np.ndarray]  # answers for the evaluation rows: see `comparison.baseline_answers`
    warnings: tuple[str, ...]  # baselines that predict better, and a threshold of few rows, each with what to do
    decision: Decision | None  # which of two classes is the label
    outputs: Outputs  # of the exported graph, for the evaluation rows

    def summary(self) -> str:
        """Return the metrics in one line, for people, and a line for each of several targets."""
        part = self.metrics.get("part", "test")
        lines = [f"{part} rows: {_listed(self.metrics)}"]
        return "\n".join(
            [*lines, *(f"  {name}: {_listed(own)}" for name, own in self.metrics.get("targets", {}).items())]
        )


def _listed(measured: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in measured.items() if isinstance(value, float))


def evaluate(data: Dataset, compiled: CompiledModel, decided: Chosen | None = None) -> Evaluation:
    """Run the exported graph on the validation and the evaluation rows, and measure its outputs.

    `decided` is the threshold of two classes, if there is one.
    """
    outputs = {part: compiled.run(data.arrays[part]) for part in ("validation", data.evaluation_part)}
    decision = None if decided is None else decided.decision
    evaluated, baselines = outputs[data.evaluation_part], comparison.baseline_answers(data)
    found = uncertainties(data, outputs)
    return Evaluation(
        metrics_of(data, evaluated) | ({} if decision is None else threshold.measured(data, evaluated, decision)),
        found[0] if found and not data.target.several else None,
        found if found and data.target.several else None,
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
    measured: dict[str, Any]
    each: dict[str, Any] = {}  # the metrics of each of several targets
    if data.target.several:
        measured = metrics.several(outputs["value"], y, train_y.mean(axis=0), data.target)
        each = measured["targets"]
    elif data.target.classes is None:
        measured = metrics.regression(outputs["value"][:, 0], y, float(train_y.mean()), metrics.loss_of(data.target))
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
        answers, loss = data.target.answers(outputs), metrics.loss_of(data.target)
        measured[f"weighted_{loss.key}"] = loss.total(loss.of_rows(answers, y), weight)
        loss = metrics.OF_VALUES["squared_error"]
        for place, own in enumerate(each.values()):
            own[f"weighted_{loss.key}"] = loss.total(loss.of_rows(answers[:, place], y[:, place]), weight)
    return {"rows": len(y), **({} if part == "test" else {"part": part}), **measured}


def uncertainties(data: Dataset, outputs: Mapping[str, Outputs]) -> list[dict[str, Any]]:
    """Return each target's conformal thresholds from the validation rows, tested on the test rows; none with too few rows."""
    part = data.evaluation_part
    y, test_y = data.y("validation"), data.y(part)
    if data.target.classes is None:
        values, test = (outputs[name]["value"].T for name in ("validation", part))  # [targets, rows]
        truth, test_truth = (each.reshape(len(each), -1).T for each in (y, test_y))  # [targets, rows]
        found = [conformal.for_values(*of) for of in zip(values, truth, test, test_truth, strict=True)]
    else:
        validation, test = (outputs[name]["probabilities"] for name in ("validation", part))
        found = [conformal.for_classes(validation, y, test, test_y)]
    thresholds = conformal.alike([one for one in found if one is not None])
    if len(thresholds) < len(found):
        return []
    if part != "test":  # their own rows would test nothing
        thresholds = [one.model_copy(update={"tested": {}}) for one in thresholds]
    return [one.model_dump() for one in thresholds]


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
