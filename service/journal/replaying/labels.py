"""Labels that came later, beside what was answered: metrics over time, and the coverage promised and measured."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet

from batchproof.service.bundle.signature import class_text
from batchproof.service.errors import JournalError
from batchproof.service.features.arrays import Outputs
from batchproof.service.inference.model import Model
from batchproof.service.journal.reader import CheckedSegment
from batchproof.service.journal.replaying.replay import Choice, Load, key_of, outputs_of

Window = Literal["hour", "day", "week", "all"]
LEAST_SHARE = 1e-15  # of a class in the log loss
COVERAGES = (0.8, 0.9, 0.95)  # that are measured, where the model has thresholds for them
Label = str | int | float | bool
Key = tuple[str, int, str, int]  # name, version, start of the window, column of the target


class LabelFile:
    """A CSV or Parquet file with `request_id`, `row` (0 where there is none) and the target."""

    def __init__(self, path: Path) -> None:
        """Read it; raises JournalError."""
        self._name = path.name
        try:
            if path.suffix in (".parquet", ".pq"):
                self._table = parquet.read_table(path)
            else:
                self._table = csv.read_csv(path, convert_options=_as_texts(path))
        except (OSError, pa.ArrowException) as error:
            raise JournalError(f"the labels {path} cannot be read: {error}") from error
        if "request_id" not in self._table.column_names:
            raise JournalError(f"{self._name} has no column request_id; it has {', '.join(self._table.column_names)}")
        self._by_target: dict[str, dict[tuple[str, int], Label]] = {}

    def of(self, target: str) -> dict[tuple[str, int], Label]:
        """Return the labels of a target by request and row; raises JournalError where there is no such column."""
        if target not in self._by_target:
            if target not in self._table.column_names:
                raise JournalError(f"{self._name} has no column {target!r}, which is the model's target")
            self._by_target[target] = self._read(target)
        return self._by_target[target]

    def _read(self, target: str) -> dict[tuple[str, int], Label]:
        ids = self._table["request_id"].cast(pa.string()).to_pylist()
        rows = [0] * len(ids)
        if "row" in self._table.column_names:
            try:
                rows = pc.fill_null(self._table["row"].cast(pa.int64()), 0).to_pylist()
            except pa.ArrowInvalid as error:
                raise JournalError(f"{self._name}: row must be a whole number: {error}") from error
        labels = self._table[target].to_pylist()
        found: dict[tuple[str, int], Label] = {}
        for request_id, row, label in zip(ids, rows, labels, strict=True):
            if label is None or label == "":
                continue
            if found.setdefault((request_id, row), label) != label:
                raise JournalError(f"{self._name} has two labels for row {row} of request {request_id!r}")
        return found


def _as_texts(path: Path) -> csv.ConvertOptions:
    """Return options that read every column as text: an id of digits keeps its zeros, a class its spelling."""
    names = csv.open_csv(path).schema.names
    return csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True)


@dataclass
class Measured:
    """What the answers of one version in one window came to."""

    model: str
    version: int
    start: str  # of the window, in UTC; empty for all time
    answered: int = 0
    labelled: int = 0
    unknown_labels: int = 0  # that are neither classes of the model nor numbers
    correct: int = 0
    sum_log_loss: float = 0.0
    sum_squares: float = 0.0
    sum_absolute: float = 0.0
    target: str = ""  # of several; empty where there is one
    is_classes: bool = True
    covered: dict[float, int] = field(
        default_factory=dict
    )  # coverage promised -> rows in whose set or interval the truth is
    sizes: dict[float, float] = field(default_factory=dict)  # summed sizes of sets, or widths of intervals

    def as_dict(self) -> dict[str, Any]:
        """Return the metrics for JSON; None where no row has a label."""
        rows = self.labelled
        named: dict[str, Any] = {"model": self.model, "version": self.version, "start": self.start}
        named |= {"target": self.target} if self.target else {}
        named |= {"answered": self.answered, "labelled": rows, "unknown_labels": self.unknown_labels}
        if self.is_classes:
            metrics = {"accuracy": self.correct, "log_loss": self.sum_log_loss}
            named |= {name: total / rows if rows else None for name, total in metrics.items()}
        else:
            named["rmse"] = (self.sum_squares / rows) ** 0.5 if rows else None
            named["mae"] = self.sum_absolute / rows if rows else None
        size = "mean_set_size" if self.is_classes else "mean_width"
        named["coverage"] = [
            {"promised": promised, "measured": covered / rows, size: self.sizes[promised] / rows}
            for promised, covered in self.covered.items()
        ]
        return named


def measure(
    segments: Sequence[CheckedSegment], load: Load, labels: LabelFile, choice: Choice, window: Window
) -> list[Measured]:
    """Return the metrics of each version in each window, and of each of its targets, oldest first; raises JournalError."""
    measured: dict[Key, Measured] = {}
    models: dict[tuple[str, int, str, str], Model | str] = {}
    for segment in segments:
        key = key_of(segment.header)
        if choice.model not in (None, key[0]):
            continue
        for batch in map(choice.rows, segment.batches()):
            if not batch.num_rows:
                continue
            if key not in models:
                models[key] = load(segment.header)
            model = models[key]
            if isinstance(model, str):
                raise JournalError(model)
            for column, target in enumerate(model.manifest.signature.target_names):
                _measure_batch(measured, model, column, labels.of(target), batch, window)
    if not any(one.labelled for one in measured.values()):
        raise JournalError("no label belongs to a row of the journal: request_id and row must match answered requests")
    return [measured[key] for key in sorted(measured)]


def _measure_batch(
    measured: dict[Key, Measured],
    model: Model,
    column: int,
    labels: dict[tuple[str, int], Label],
    batch: pa.RecordBatch,
    window: Window,
) -> None:
    manifest = model.manifest
    starts = [_start(time, window) for time in batch["time"].to_pylist()]
    pairs = list(zip(batch["request_id"].to_pylist(), batch["row"].to_pylist(), strict=True))
    outputs = outputs_of(batch)
    for start in sorted(set(starts)):
        signature = manifest.signature
        target = "" if signature.targets is None else signature.targets[column]
        key = (manifest.name, manifest.version, start, column)
        into = measured.setdefault(key, Measured(*key[:3], target=target, is_classes=signature.classes is not None))
        places = [place for place, own in enumerate(starts) if own == start]
        into.answered += len(places)
        labelled = [place for place in places if pairs[place] in labels]
        truths = [labels[pairs[place]] for place in labelled]
        _add(into, model, column, {name: values[labelled] for name, values in outputs.items()}, truths)


def _start(time: datetime, window: Window) -> str:
    """Return when the window of a moment began, as ISO 8601."""
    if window == "all":
        return ""
    if window == "hour":
        return time.strftime("%Y-%m-%dT%H:00Z")
    return (time - timedelta(days=time.weekday() if window == "week" else 0)).strftime("%Y-%m-%d")


def _add(into: Measured, model: Model, column: int, outputs: Outputs, truths: Sequence[Label]) -> None:
    """Count labelled rows: `outputs` [rows, width] and the `truths` of the target at `column`, one for each row."""
    classes = model.manifest.signature.classes
    numbers = [_number(truth) if classes is None else _place(truth, classes) for truth in truths]
    good = [row for row, number in enumerate(numbers) if number is not None]
    into.unknown_labels += len(numbers) - len(good)
    if not good:
        return
    own = {name: values[good] for name, values in outputs.items()}
    into.labelled += len(good)
    if classes is None:
        values = own["value"][:, column]
        _add_values(into, model, column, values, np.array([numbers[row] for row in good], np.float64))
    else:
        _add_classes(into, model, own["probabilities"], np.array([numbers[row] for row in good], np.int64))


def _add_classes(into: Measured, model: Model, probabilities: np.ndarray, truth: np.ndarray) -> None:
    rows = np.arange(len(truth))
    into.correct += int((model.manifest.label_places(probabilities) == truth).sum())
    shares = np.maximum(probabilities[rows, truth].astype(np.float64), LEAST_SHARE)
    into.sum_log_loss -= float(np.log(shares).sum())
    for promised, level in _levels(model):
        sets = model.manifest.conformals[0].sets(level, probabilities)
        _cover(into, promised, sets[rows, truth], sets.sum(axis=1))


def _add_values(into: Measured, model: Model, column: int, values: np.ndarray, truth: np.ndarray) -> None:
    errors = values.astype(np.float64) - truth
    into.sum_squares += float((errors**2).sum())
    into.sum_absolute += float(np.abs(errors).sum())
    for promised, level in _levels(model):
        low, high = model.manifest.conformals[column].intervals(level, values)
        _cover(into, promised, (low <= truth) & (truth <= high), high.astype(np.float64) - low)


def _cover(into: Measured, promised: float, holds: np.ndarray, sizes: np.ndarray) -> None:
    into.covered[promised] = into.covered.get(promised, 0) + int(holds.sum())
    into.sizes[promised] = into.sizes.get(promised, 0.0) + float(sizes.sum())


def _levels(model: Model) -> list[tuple[float, int]]:
    """Return the coverages that are measured, with the place of their thresholds."""
    if not model.manifest.conformals:
        return []
    conformal = model.manifest.conformals[0]  # those of all targets have the same coverages
    most = conformal.coverages[-1]
    levels = [conformal.level(coverage) for coverage in COVERAGES if coverage <= most]
    return [(conformal.coverages[level], level) for level in levels]


def _number(truth: Label) -> float | None:
    try:
        number = float(truth)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _place(truth: Label, classes: Sequence[Any]) -> int | None:
    """Return the place of a label among the classes; 1.0 is the class 1, as tables with gaps write it."""
    if isinstance(truth, float) and truth.is_integer():
        truth = int(truth)
    text = class_text(truth) if not isinstance(truth, float) else str(truth)
    texts = [class_text(label) for label in classes]
    return texts.index(text) if text in texts else None
