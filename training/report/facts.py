"""All measurements that the page shows."""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

from batchproof.service.bundle.signature import Signature
from batchproof.service.features.arrays import Arrays, split
from batchproof.service.invariance import check as invariance
from batchproof.service.invariance.probe_rows import edge_rows, random_rows
from batchproof.service.invariance.verdict import Verification
from batchproof.training.data.column import Column
from batchproof.training.data.dataset import Dataset
from batchproof.training.evaluation.evaluate import Evaluation
from batchproof.training.export.compile import CompiledModel, NormStatistics
from batchproof.training.fit.context import Fitted
from batchproof.training.fit.loop import Epoch
from batchproof.training.network import fold
from batchproof.training.report.measures import groups, importance, reliability, threshold_curve
from batchproof.training.report.measures import scores as score_measures
from batchproof.training.report.measures.groups import Grouped
from batchproof.training.report.measures.importance import Dependence, Importance
from batchproof.training.report.measures.reliability import Reliability
from batchproof.training.report.measures.scores import Score
from batchproof.training.report.measures.threshold_curve import ThresholdCurve

PROBE_ROWS = 64  # random rows in each draw of the invariance check, besides the edge rows


@dataclass(frozen=True)
class Facts:
    """The measurements of one bundle."""

    content: Mapping[str, Any]  # bundle.json without its file list
    example: Mapping[str, Any]  # a synthetic row, by name
    columns: tuple[Column, ...]
    train: np.ndarray  # numbers of the training rows
    missing: Mapping[str, float]  # feature -> share of training rows without a value
    history: tuple[Epoch, ...]
    best: int  # the best epoch, whose network is exported
    evaluation_part: str  # the part that everything below is measured on: "test" or "validation"
    truth: np.ndarray  # [rows] class codes or values; of several targets [rows, targets]
    outputs: Mapping[str, np.ndarray]  # of the served graph, [rows, width]
    scores: tuple[Score, ...]
    lost: tuple[str, ...]  # warnings: baselines that predict better
    threshold: ThresholdCurve | None  # of a bundle whose label is decided by one
    reliability: Reliability | None
    groups: tuple[Grouped, ...]  # of the most important categorical features
    importances: tuple[Importance, ...]  # the largest first
    dependences: tuple[Dependence, ...]  # of the most important features
    norms: tuple[NormStatistics, ...]
    verification: Verification

    @property
    def signature(self) -> Signature:
        """Features, target and classes."""
        return Signature.model_validate(self.content["signature"])

    @property
    def metrics(self) -> dict[str, Any]:
        """What was measured beside the metrics themselves: their 95 % intervals, and the expected calibration error.

        Of several targets, the metrics of each with their intervals are among it.
        """
        error = {} if self.reliability is None else {"calibration_error": self.reliability.after.error}
        of_targets = self.content["metrics"].get("targets", {})
        each = {name: {**own, "intervals": self._intervals(name)} for name, own in of_targets.items()}
        return {**error, **({"targets": each} if each else {}), "intervals": self._intervals()}

    def scores_of(self, target: str = "") -> tuple[Score, ...]:
        """Return the scores of one of several targets; without a name, those of all together."""
        return tuple(score for score in self.scores if score.target == target)

    def _intervals(self, target: str = "") -> dict[str, list[float]]:
        found = {score.key: score.methods["This model"] for score in self.scores_of(target)}
        return {key: [one.low, one.high] for key, one in found.items() if np.isfinite(one).all()}


def collect(
    data: Dataset,
    fitted: Fitted,
    compiled: CompiledModel,
    evaluation: Evaluation,
    content: Mapping[str, Any],
    example: Mapping[str, Any],
) -> Facts:
    """Measure on the evaluation rows, or on samples of them, so that the time is bounded for any table."""
    outputs = evaluation.outputs
    importances = importance.importances(data, compiled.run)
    return Facts(
        content=content,
        example=example,
        columns=data.columns,
        train=data.split.train,
        missing={column.name: float(column.take(data.split.train).is_missing.mean()) for column in data.columns},
        history=fitted.result.history,
        best=fitted.result.best.number,
        evaluation_part=data.evaluation_part,
        truth=data.y(data.evaluation_part),
        outputs=outputs,
        scores=score_measures.scores(
            data, outputs, evaluation.baselines, has_threshold=evaluation.decision is not None
        ),
        lost=evaluation.warnings,
        threshold=threshold_curve.of(data, outputs, evaluation.decision),
        reliability=_reliability(data, compiled, outputs),
        groups=groups.of(data, outputs, importances),
        importances=importances,
        dependences=importance.dependences(data, compiled.run, importances),
        norms=compiled.norms,
        verification=_verified(data.signature, compiled),
    )


def _reliability(data: Dataset, compiled: CompiledModel, outputs: Mapping[str, np.ndarray]) -> Reliability | None:
    if data.target.classes is None:
        return None
    shift = 0.0 if data.prior is None else data.prior.shift
    before = fold.softmax((outputs["scores"].astype(np.float64) - shift) * compiled.temperature + shift)
    return reliability.of(before, outputs["probabilities"], data.y(data.evaluation_part), compiled.temperature)


def _verified(signature: Signature, compiled: CompiledModel) -> Verification:
    """Run the service's check of batch invariance on this machine.

    The number of draws is fixed: more of them on a faster machine would change the report, and thus the bundle's bytes.
    """

    def draw(number: int) -> Arrays:
        random = Random(f"1 {number}")  # noqa: S311 - as the service draws
        rows = [edge_rows(signature, random), random_rows(signature, PROBE_ROWS, random)]
        return split(signature, np.concatenate(rows))

    proved, effort = compiled.proved is not None, invariance.Effort(budget_s=0.0)
    return invariance.verify([compiled.runner], draw, "report", proved=proved, effort=effort).verification
