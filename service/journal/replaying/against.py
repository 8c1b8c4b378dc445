"""What another version of a model would have answered: changed labels, how large the differences are, the worst rows."""

import heapq
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from batchproof.service.bundle.signature import class_text
from batchproof.service.errors import FeatureError, JournalError
from batchproof.service.features.arrays import Outputs
from batchproof.service.inference.model import Model
from batchproof.service.journal.reader import CheckedSegment
from batchproof.service.journal.replaying.recoding import recode
from batchproof.service.journal.replaying.replay import Choice, Load, key_of, outputs_of

WORST = 10  # rows that are listed
EDGES = np.array([0.0, *(10.0**power for power in range(-9, 10))])  # of the histogram: 0 is equal
Other = Callable[[str], Model | str]  # name -> the other version, or why it is not there


@dataclass
class Comparison:
    """One version that answered beside the other."""

    model: str
    version: int
    against: int
    rows: int = 0  # that both answered
    changed_labels: int = 0
    changes: Counter[tuple[str, str]] = field(default_factory=Counter)  # (label then, label now) where they differ
    histogram: np.ndarray = field(default_factory=lambda: np.zeros(len(EDGES) + 1, np.int64))
    sum_difference: float = 0.0
    largest: float = 0.0
    worst: list[tuple[float, str, int, str, str]] = field(
        default_factory=list
    )  # a heap: difference, id, row, then, now
    skipped: dict[str, int] = field(default_factory=dict)  # why -> rows
    unsure: int = 0  # rows with a category whose text is not known
    other_classes: bool = False  # whether the versions have other classes, so that only labels compare

    def skip(self, why: str, rows: int) -> None:
        """Count rows that the other version does not answer."""
        self.skipped[why] = self.skipped.get(why, 0) + rows

    def as_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        worst = sorted(self.worst, reverse=True)
        return {
            "model": self.model,
            "version": self.version,
            "against": self.against,
            "rows": self.rows,
            "changed_labels": self.changed_labels,
            "changes": [{"then": then, "now": now, "rows": rows} for (then, now), rows in self.changes.most_common()],
            "mean_difference": self.sum_difference / self.rows if self.rows else 0.0,
            "largest_difference": self.largest,
            "histogram": self.bins(),
            "worst": [dict(zip(("difference", "request_id", "row", "then", "now"), one, strict=True)) for one in worst],
            "skipped": self.skipped,
            "rows_with_unknown_categories": self.unsure,
            "has_other_classes": self.other_classes,
        }

    def bins(self) -> list[dict[str, Any]]:
        """Return the histogram from its first to its last bin with a row; a difference is above one end, up to the other."""
        ends = [(0.0, 0.0), *((float(low), float(high)) for low, high in pairwise(EDGES))]
        counted = list(zip([*ends, (float(EDGES[-1]), None)], self.histogram.tolist(), strict=True))
        filled = [place for place, (_, rows) in enumerate(counted) if rows]
        shown = counted[filled[0] : filled[-1] + 1] if filled else []
        return [{"above": low, "to": high, "rows": rows} for (low, high), rows in shown]


def compare(
    segments: Sequence[CheckedSegment],
    load: Load,
    other: Other,
    version: int,
    choice: Choice,
    progress: Callable[[int], None] | None = None,
) -> list[Comparison]:
    """Run the chosen rows on `version` of their model and compare with what was answered; raises JournalError."""
    compared: dict[tuple[str, int, str, str], Comparison] = {}
    models: dict[tuple[str, int, str, str], tuple[Model | str, Model | str]] = {}
    done = 0
    for segment in segments:
        key = key_of(segment.header)
        if choice.model not in (None, key[0]):
            continue
        result = compared.setdefault(key, Comparison(key[0], key[1], version))
        for batch in map(choice.rows, segment.batches()):
            if not batch.num_rows:
                continue
            if key not in models:
                models[key] = (load(segment.header), other(key[0]))
            _compare_batch(result, batch, *models[key])
            done += batch.num_rows
            if progress is not None:
                progress(done)
    if not done:
        raise JournalError("no row of the journal matches")
    return list(compared.values())


def _compare_batch(result: Comparison, batch: pa.RecordBatch, given: Model | str, wanted: Model | str) -> None:
    for model in (given, wanted):
        if isinstance(model, str):
            result.skip(model, batch.num_rows)
            return
    assert isinstance(given, Model)
    assert isinstance(wanted, Model)
    try:
        recoded = recode(batch, given.manifest.signature, wanted.manifest.signature)
    except FeatureError as error:
        result.skip(str(error), batch.num_rows)
        return
    for why, rows in recoded.refused.items():
        result.skip(f"version {result.against} refuses them: {why}", rows)
    result.unsure += recoded.unsure
    if not len(recoded.kept):
        return
    then = {name: values[recoded.kept] for name, values in outputs_of(batch).items()}
    (now,) = wanted.runner.run([recoded.arrays])
    _add(result, batch, recoded.kept, (given, then), (wanted, now))


def _add(
    result: Comparison,
    batch: pa.RecordBatch,
    kept: np.ndarray,
    given: tuple[Model, Outputs],
    wanted: tuple[Model, Outputs],
) -> None:
    texts = [_texts(*given), _texts(*wanted)]
    differences = _differences(result, given, wanted)
    result.rows += len(kept)
    for then, now in zip(*texts, strict=True):
        if then != now and given[0].manifest.signature.classes is not None:
            result.changed_labels += 1
            result.changes[then, now] += 1
    result.histogram += np.bincount(np.searchsorted(EDGES, differences, side="left"), minlength=len(EDGES) + 1)
    result.sum_difference += float(differences.sum())
    result.largest = max(result.largest, float(differences.max()))
    ids, rows = batch["request_id"], batch["row"]
    for place in np.argsort(-differences, kind="stable")[:WORST].tolist():
        if differences[place] == 0.0:
            break
        where = int(kept[place])
        found = (float(differences[place]), ids[where].as_py(), rows[where].as_py(), texts[0][place], texts[1][place])
        heapq.heappush(result.worst, found)
        if len(result.worst) > WORST:
            heapq.heappop(result.worst)


def _texts(model: Model, outputs: Outputs) -> list[str]:
    """Return each row's label, or its values."""
    classes = model.manifest.signature.classes
    if classes is None:
        return [", ".join(f"{value:.6g}" for value in row) for row in outputs["value"].tolist()]
    return [class_text(classes[place]) for place in model.manifest.label_places(outputs["probabilities"]).tolist()]


def _differences(result: Comparison, given: tuple[Model, Outputs], wanted: tuple[Model, Outputs]) -> np.ndarray:
    """Return how far each row's answers are apart, [rows] float64: the largest difference of a value or of a probability.

    Several targets differ each in its own unit. Raises JournalError where the other version has another task or other targets.
    """
    if given[0].manifest.signature.classes is None or wanted[0].manifest.signature.classes is None:
        values = [outputs.get("value") for _, outputs in (given, wanted)]
        if values[0] is None or values[1] is None:
            raise JournalError(f"version {result.against} is of another task")
        targets = [model.manifest.signature.targets for model, _ in (given, wanted)]
        if targets[0] != targets[1]:
            raise JournalError(f"version {result.against} predicts other targets")
        distance: np.ndarray = np.abs(values[0].astype(np.float64) - values[1]).max(axis=1)
        return distance
    shares = [_by_class(model, outputs) for model, outputs in (given, wanted)]
    result.other_classes = shares[0].keys() != shares[1].keys()
    zero = np.zeros(len(given[1]["probabilities"]))
    apart = [np.abs(shares[0].get(name, zero) - shares[1].get(name, zero)) for name in {**shares[0], **shares[1]}]
    largest: np.ndarray = np.max(apart, axis=0)
    return largest


def _by_class(model: Model, outputs: Outputs) -> Mapping[str, np.ndarray]:
    classes = model.manifest.signature.classes or ()
    shares = outputs["probabilities"].astype(np.float64)
    return {class_text(label): shares[:, place] for place, label in enumerate(classes)}
