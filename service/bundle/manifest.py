"""What `bundle.json` says: the contract between training, which writes it, and the service, which reads it.

Every model is strict and closed: an unknown, missing or mistyped field is an error that names the field.
The format is specified for readers in docs/bundle.md; a change here is a change there and of `FORMAT_VERSION`.
"""

from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta

from batchproof.service.bundle.conformal import Conformal
from batchproof.service.bundle.files.records import Record
from batchproof.service.bundle.signature import Signature, Task, Tensor

FORMAT = "batchproof-bundle"
FORMAT_VERSION = 2  # what is written where a bundle has no `decision`
DECISION_VERSION = 3  # what is written where it has one: a reader that did not know of it would answer other labels
QUANTILE_VERSION = 4  # what is written where it has `quantiles`
TARGETS_VERSION = 5  # what is written where it has several targets
READABLE_VERSIONS = (1, 2, 3, 4, 5)  # version 1 has no reference.json
REFERENCE_FILE = "reference.json"  # statistics of the training rows: service/bundle/rows/reference.py

MOST_QUANTILES = 19
LEVELS = (0.001, 0.999)  # between which a level lies: as a text of the same digits in every language

Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z"
Name = Annotated[str, Meta(pattern=NAME_PATTERN)]


class FileEntry(Record, frozen=True, kw_only=True):
    """One file of the bundle other than bundle.json."""

    sha256: Sha256
    bytes: Annotated[int, Meta(ge=0)]


class Arithmetic(Record, frozen=True, kw_only=True):
    """float32 (verified on each host) or exact (proved from the file; `certificate` says how)."""

    kind: Literal["float32", "exact"]
    certificate: dict[str, Any] | None = None
    accuracy: dict[str, Any] | None = None  # exact: errors against the folded float64 network, saturated share


class Decision(Record, frozen=True, kw_only=True):
    """Which class of two is the label: the second where its probability is at least the threshold, else the first."""

    threshold: Annotated[float, Meta(gt=0, lt=1)]
    rule: str  # what it was chosen by, for people: such as `f1`, `cost=1:20` or `0.3`
    rows: Annotated[int, Meta(ge=0)] = 0  # on how many validation rows it was chosen; 0 where it was given

    def places(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the place of the label among the classes [rows] int64, for `probabilities` [rows, 2] float32."""
        return (probabilities[:, 1].astype(np.float64) >= self.threshold).astype(np.int64)


def label_places(probabilities: np.ndarray, decision: Decision | None) -> np.ndarray:
    """Return the place of each row's label among the classes [rows] int64, for probabilities [rows, classes].

    That is the greatest probability, the first of equal ones, unless there is a decision.
    """
    if decision is not None:
        return decision.places(probabilities)
    places: np.ndarray = probabilities.argmax(axis=1)
    return places


Level = Annotated[float, Meta(ge=LEVELS[0], le=LEVELS[1])]


class Manifest(Record, frozen=True, kw_only=True):
    """The whole of bundle.json."""

    format: Literal["batchproof-bundle"]
    format_version: Literal[1, 2, 3, 4, 5]
    sha256: Sha256  # the seal over bundle.json itself: service/bundle/files/checksum.py
    name: Name
    version: Annotated[int, Meta(ge=1)]
    task: Task
    signature: Signature
    arithmetic: Arithmetic
    files: dict[str, FileEntry]  # every file of the folder but bundle.json itself
    metrics: dict[str, Any]  # on the held-out test rows
    provenance: dict[str, Any]
    uncertainty: Conformal | None = None  # split-conformal thresholds, where there were rows to find them

    decision: Decision | None = None  # which class is the label; None: the most probable one
    # The levels of the graph's output `quantiles`, ascending; None: it has no such output.
    quantiles: Annotated[tuple[Level, ...], Meta(min_length=1, max_length=MOST_QUANTILES)] | None = None
    # In place of `uncertainty` where there are several targets: that of each, in their order, with the same coverages.
    uncertainties: tuple[Conformal, ...] | None = None

    def model_dump(self, **options: Any) -> dict[str, Any]:
        """Leave out later fields that are not there, so that readers who do not know of them read the others."""
        content = super().model_dump(**options)
        for name in ("decision", "quantiles", "uncertainties"):
            if getattr(self, name) is None:
                content.pop(name, None)
        return content

    @property
    def quantile_keys(self) -> tuple[str, ...]:
        """The level of each quantile as answers write it: `0.1`; none where the bundle has no quantiles."""
        return tuple(map(repr, self.quantiles or ()))

    @property
    def conformals(self) -> tuple[Conformal, ...]:
        """The thresholds of each target, in their order, all with the same coverages; none where the bundle has none."""
        return self.uncertainties or (() if self.uncertainty is None else (self.uncertainty,))

    @property
    def coverages(self) -> tuple[float, ...]:
        """The coverages that sets and intervals may have, ascending; none where the bundle has no thresholds."""
        return self.conformals[0].coverages if self.conformals else ()

    def label_places(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the place of each row's label [rows] int64, for probabilities [rows, classes], by this bundle's decision."""
        return label_places(probabilities, self.decision)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """The graph outputs that the task and the arithmetic require."""
        saturated = (Tensor("saturated", "bool", 1),) if self.arithmetic.kind == "exact" else ()
        if self.signature.classes is None:
            levels = len(self.quantiles or ())
            quantiles = (Tensor("quantiles", "float32", levels),) if levels else ()
            return (Tensor("value", "float32", len(self.signature.target_names)), *quantiles, *saturated)
        classes = len(self.signature.classes)
        return (Tensor("probabilities", "float32", classes), Tensor("scores", "float32", classes), *saturated)

    def __post_init__(self) -> None:
        """Raise ValueError for fields that contradict one another."""
        self._classes_fit_task()
        self._quantiles_fit()
        self._targets_fit()

    def _classes_fit_task(self) -> None:
        count = len(self.signature.classes or ())
        fits = {"binary": count == 2, "multiclass": count >= 3, "regression": self.signature.classes is None}
        if not fits[self.task]:
            raise ValueError(f"signature.classes has {count} classes, which does not fit a {self.task} task")
        if self.decision is not None and (self.task != "binary" or self.format_version < DECISION_VERSION):
            raise ValueError(f"decision is of binary bundles, of format_version {DECISION_VERSION} or later")

    def _quantiles_fit(self) -> None:
        if self.quantiles is None:
            return
        if self.task != "regression" or self.format_version < QUANTILE_VERSION:
            raise ValueError(f"quantiles are of regression bundles, of format_version {QUANTILE_VERSION} or later")
        if list(self.quantiles) != sorted(set(self.quantiles)):
            raise ValueError("quantiles ascend")

    def _targets_fit(self) -> None:
        count = len(self.signature.target_names)
        if self.signature.targets is None:
            if self.uncertainties is not None:
                raise ValueError("uncertainties are of bundles with several targets")
            return
        if self.task != "regression" or self.format_version < TARGETS_VERSION:
            raise ValueError(f"several targets are of regression bundles, of format_version {TARGETS_VERSION} or later")
        if self.quantiles is not None or self.uncertainty is not None:
            raise ValueError("quantiles and uncertainty are of bundles with one target")
        if self.uncertainties is not None and len(self.uncertainties) != count:
            raise ValueError(f"uncertainties has {len(self.uncertainties)} entries for {count} targets")
        if len({one.coverages for one in self.conformals}) > 1:
            raise ValueError("all uncertainties have the same coverages")
