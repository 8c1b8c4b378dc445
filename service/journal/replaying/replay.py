"""Run journalled rows again and compare every bit with what was answered."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchproof.service.bundle.signature import Signature
from batchproof.service.features.arrays import Arrays, Outputs
from batchproof.service.inference.model import Model
from batchproof.service.invariance.bitwise import alone, row_bytes
from batchproof.service.journal.entries import INPUT, OUTPUT
from batchproof.service.journal.reader import CheckedSegment

BLOCK_ROWS = 4096  # at least so many run together, where a segment has them
EXAMPLES = 5  # how many rows that differ are shown


class Choice(NamedTuple):
    """Which rows of a journal are meant: all that fit every part."""

    request_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    model: str | None = None

    def rows(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows of a batch that are meant."""
        wanted = None
        for condition in self._conditions(batch):
            wanted = condition if wanted is None else pc.and_(wanted, condition)
        return batch if wanted is None else batch.filter(wanted)

    def _conditions(self, batch: pa.RecordBatch) -> Iterator[pa.Array]:
        times = batch["time"]
        if self.request_id is not None:
            yield pc.equal(batch["request_id"], self.request_id)
        if self.since is not None:
            yield pc.greater_equal(times, pa.scalar(self.since, times.type))
        if self.until is not None:
            yield pc.less(times, pa.scalar(self.until, times.type))


class Difference(NamedTuple):
    """One row whose bits are not those that were answered."""

    segment: str
    request_id: str
    row: int
    output: str
    answered: str  # hex, in the order of this host's bytes
    again: str
    batch_rows: int  # 1: alone


@dataclass
class Result:
    """What the rows of one version of one model came to."""

    model: str
    version: int
    seal: str
    rows: int = 0
    equal: int = 0
    differences: list[Difference] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)  # why rows could not be run -> how many
    then: dict[str, Any] = field(default_factory=dict)  # the engine and host that answered, where they differ from now
    now: dict[str, Any] = field(default_factory=dict)

    @property
    def differing(self) -> int:
        """Return how many rows have other bits."""
        return self.rows - self.equal - sum(self.skipped.values())

    def skip(self, why: str, rows: int) -> None:
        """Count rows that could not be run."""
        self.rows += rows
        self.skipped[why] = self.skipped.get(why, 0) + rows


Load = Callable[[Mapping[str, Any]], Model | str]  # a segment's header -> the model that answered, or why there is none


def key_of(header: Mapping[str, Any]) -> tuple[str, int, str, str]:
    """Return what tells one way of answering from another: name, version, seal and the verdict that it was served with."""
    verdict = str(header["fingerprint"].get("invariance", ""))
    return str(header["model"]), int(header["version"]), str(header["seal"]), verdict


def replay(
    segments: Sequence[CheckedSegment], load: Load, choice: Choice, progress: Callable[[int], None] | None = None
) -> list[Result]:
    """Run the chosen rows of every segment again, each alone and together in batches of other sizes than when they were answered.

    `load` is asked once for each version of a model; `progress` gets the rows done so far. Raises JournalError where a
    segment changed since it was checked.
    """
    results: dict[tuple[str, int, str, str], Result] = {}
    models: dict[tuple[str, int, str, str], Model | str] = {}
    done = 0
    for segment in segments:
        key = key_of(segment.header)
        if choice.model not in (None, key[0]):
            continue
        result = results.setdefault(key, Result(*key[:3]))
        for chosen in _blocks(segment, choice):
            if key not in models:
                models[key] = load(segment.header)
            _replay_batch(result, models[key], segment, chosen)
            done += chosen.num_rows
            if progress is not None:
                progress(done)
    return [result for result in results.values() if result.rows]


def _blocks(segment: CheckedSegment, choice: Choice) -> Iterator[pa.RecordBatch]:
    """Give the chosen rows in blocks: many small batches of a journal cost more to read than to run."""
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in segment.batches():
        chosen = choice.rows(batch)
        if chosen.num_rows:
            waiting.append(chosen)
            rows += chosen.num_rows
        if rows >= BLOCK_ROWS:
            yield _combined(waiting)
            waiting, rows = [], 0
    if waiting:
        yield _combined(waiting)


def _combined(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.Table.from_batches(batches).combine_chunks().to_batches()[0]


def _replay_batch(result: Result, model: Model | str, segment: CheckedSegment, batch: pa.RecordBatch) -> None:
    kept_back = sorted({*segment.header["left_out"], *segment.header["hashed"]})
    if kept_back:
        result.skip(f"the journal does not hold {', '.join(kept_back)}", batch.num_rows)
        return
    if isinstance(model, str):
        result.skip(model, batch.num_rows)
        return
    _note_machines(result, model, segment.header)
    arrays = arrays_of(batch, model.manifest.signature)
    answered = outputs_of(batch)
    lone = alone(model.runner, arrays)
    joined = beside_golden_rows(model, arrays)
    batch_rows = batch.num_rows + len(model.bundle.golden.rows)
    same = np.ones(batch.num_rows, bool)
    for again, of_rows in ((lone, 1), (joined, batch_rows)):
        for name, wanted in answered.items():
            differs = (row_bytes(wanted) != row_bytes(np.ascontiguousarray(again[name]))).any(axis=1)
            for row in np.flatnonzero(differs & same).tolist():
                if len(result.differences) < EXAMPLES:
                    result.differences.append(_difference(segment, batch, row, name, wanted, again, of_rows))
            same &= ~differs
    result.rows += batch.num_rows
    result.equal += int(same.sum())


def beside_golden_rows(model: Model, arrays: Arrays) -> Outputs:
    """Return the outputs of rows that run in one batch with the bundle's golden rows, so that no row is alone."""
    golden = model.encoder.encode_rows(model.bundle.golden.rows).arrays
    return model.runner.run([arrays, golden])[0]


def arrays_of(batch: pa.RecordBatch, signature: Signature) -> Arrays:
    """Return the inputs of journalled rows as they were encoded; every feature must have been kept."""
    numeric: list[np.ndarray] = []
    codes: list[np.ndarray] = []
    for feature in signature.inputs:
        values = batch[INPUT + feature.name].to_numpy(zero_copy_only=False)
        (codes if feature.kind == "categorical" else numeric).append(values)
    return Arrays(
        np.ascontiguousarray(np.stack(numeric, axis=1)) if numeric else None,
        np.ascontiguousarray(np.stack(codes, axis=1)) if codes else None,
    )


def outputs_of(batch: pa.RecordBatch) -> Outputs:
    """Return what was answered, [rows, width] for each output."""
    outputs = {}
    for name in batch.schema.names:
        if name.startswith(OUTPUT):
            column = batch[name]
            values = column.flatten().to_numpy(zero_copy_only=False)
            outputs[name.removeprefix(OUTPUT)] = np.ascontiguousarray(
                values.reshape(len(column), column.type.list_size)
            )
    return outputs


def _note_machines(result: Result, model: Model, header: Mapping[str, Any]) -> None:
    """Remember what differs between the engine and host that answered and this one."""
    now: dict[str, Any] = {**model.fingerprint, **(dict(model.verification.host) if model.verification else {})}
    then = {**header["fingerprint"], **header["host"]}
    for name in sorted(then.keys() & now.keys()):
        if then[name] != now[name] and name not in ("sha256", "invariance"):
            result.then[name], result.now[name] = then[name], now[name]


def _difference(
    segment: CheckedSegment,
    batch: pa.RecordBatch,
    row: int,
    name: str,
    wanted: np.ndarray,
    again: Outputs,
    batch_rows: int,
) -> Difference:
    request_id, place = batch["request_id"][row].as_py(), batch["row"][row].as_py()
    answered, ran = wanted[row].tobytes().hex(), np.ascontiguousarray(again[name][row]).tobytes().hex()
    return Difference(segment.path.name, request_id, place, name, answered, ran, batch_rows)
