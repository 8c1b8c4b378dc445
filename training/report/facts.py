"""Everything that the page shows, measured before a word of it is written."""

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
from batchproof.training.data.columns import Column
from batchproof.training.data.dataset import Dataset
from batchproof.training.export.compile import CompiledModel, NormStatistics
from batchproof.training.fit.context import Fitted
from batchproof.training.fit.loop import Epoch
from batchproof.training.network import fold
from batchproof.training.report.measures import importance as influence
from batchproof.training.report.measures import reliability
from batchproof.training.report.measures import scores as scoreboard
from batchproof.training.report.measures.importance import Dependence, Importance
from batchproof.training.report.measures.reliability import Reliability
from batchproof.training.report.measures.scores import Score

PROBE_ROWS = 64  # random rows of a draw of the invariance check, beside the edges


@dataclass(frozen=True)
class Facts:
    """One bundle's facts."""

    content: Mapping[str, Any]  # bundle.json, but for its file list
    example: Mapping[str, Any]  # a synthetic row, by name
    columns: tuple[Column, ...]
    train: np.ndarray  # numbers of the training rows
    missing: Mapping[str, float]  # feature -> share of training rows without a value
    history: tuple[Epoch, ...]
    best: int  # the epoch that was kept
    evaluation_part: str  # the part that everything below is measured on
    truth: np.ndarray  # [rows] class codes or values
    outputs: Mapping[str, np.ndarray]  # of the served graph, [rows, width]
    scores: tuple[Score, ...]
    reliability: Reliability | None
    importances: tuple[Importance, ...]  # the greatest first
    dependences: tuple[Dependence, ...]  # of the most important features
    norms: tuple[NormStatistics, ...]
    verification: Verification

    @property
    def signature(self) -> Signature:
        """Features, target and classes."""
        return Signature.model_validate(self.content["signature"])


def collect(
    data: Dataset, fitted: Fitted, made: CompiledModel, content: Mapping[str, Any], example: Mapping[str, Any]
) -> Facts:
    """Measure on the evaluation rows; rows are sampled, so that the time is bounded whatever the table."""
    outputs = made.run(data.arrays[data.evaluation_part])
    importances = influence.importances(data, made.run)
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
        scores=scoreboard.scores(data, outputs),
        reliability=_reliability(data, made, outputs),
        importances=importances,
        dependences=influence.dependences(data, made.run, importances),
        norms=made.norms,
        verification=_verified(data.signature, made),
    )


def _reliability(data: Dataset, made: CompiledModel, outputs: Mapping[str, np.ndarray]) -> Reliability | None:
    if data.target.classes is None:
        return None
    before = fold.softmax(outputs["scores"].astype(np.float64) * made.temperature)
    return reliability.of(before, outputs["probabilities"], data.y(data.evaluation_part), made.temperature)


def _verified(signature: Signature, made: CompiledModel) -> Verification:
    """Run the service's own check of batch invariance on this machine."""

    def draw(number: int) -> Arrays:
        random = Random(f"1 {number}")  # noqa: S311 - as the service draws
        rows = [edge_rows(signature, random), random_rows(signature, PROBE_ROWS, random)]
        return split(signature, np.concatenate(rows))

    return invariance.verify([made.runner], draw, "report", proved=made.proved is not None).verification
