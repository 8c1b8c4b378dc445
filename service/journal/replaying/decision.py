"""One decision for an auditor: what was asked, what was answered, whether it is so again, and what answered."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from batchproof.service.bundle.manifest import Manifest
from batchproof.service.bundle.signature import Feature
from batchproof.service.features import attribution
from batchproof.service.features.arrays import Arrays, Outputs
from batchproof.service.features.decoder import Decoder
from batchproof.service.inference.model import Model
from batchproof.service.invariance.bitwise import alone, row_bytes
from batchproof.service.journal.entries import INPUT
from batchproof.service.journal.reader import CheckedSegment
from batchproof.service.journal.replaying.replay import Load, arrays_of, beside_golden_rows, key_of, outputs_of
from batchproof.service.journal.values import shown
from batchproof.service.protocols.options import baseline_of

MOST_ROWS = 20  # of one request that are shown; a table may have a million
MOST_EXPLAINED = 700  # features: runs and numbers of an explanation grow with their square


class Asked(NamedTuple):
    """Which rows are shown: of one request all, or the one at a place."""

    request_id: str
    row: int | None = None


class Decisions(NamedTuple):
    """What there is to say of a request."""

    rows: list[dict[str, Any]]  # of the first MOST_ROWS of its rows; ready for JSON
    total: int  # rows that the journal holds of it


def decisions(segments: Sequence[CheckedSegment], load: Load, asked: Asked) -> Decisions:
    """Return what the segments hold of a request; `load` is asked once for each version of a model that has rows of it."""
    models: dict[tuple[str, int, str, str], Model | str] = {}
    rows: list[dict[str, Any]] = []
    total = 0
    for segment in segments:
        key = key_of(segment.header)
        for batch in _batches(segment):
            places = _places(batch, asked)
            total += len(places)
            shown = places[: MOST_ROWS - len(rows)]
            if not len(shown):
                continue
            if key not in models:
                models[key] = load(segment.header)
            rows += _rows(segment, batch, shown, models[key])
    return Decisions(rows, total)


def _batches(segment: CheckedSegment) -> Iterator[pa.RecordBatch]:
    """Give a segment's rows; none of one that journal_keep_s has removed since it was checked."""
    with contextlib.suppress(FileNotFoundError):
        yield from segment.batches()


def _places(batch: pa.RecordBatch, asked: Asked) -> np.ndarray:
    """Return where the wanted rows stand in a batch, [n] int64."""
    ids = batch["request_id"].to_numpy(zero_copy_only=False)
    wanted = ids == asked.request_id
    if asked.row is not None:
        wanted &= batch["row"].to_numpy(zero_copy_only=False) == asked.row
    return np.flatnonzero(wanted)


def _rows(
    segment: CheckedSegment, batch: pa.RecordBatch, places: np.ndarray, model: Model | str
) -> list[dict[str, Any]]:
    header, answered = segment.header, outputs_of(batch)
    kept_back = sorted({*header["left_out"], *header["hashed"]})
    why = f"the journal does not hold {', '.join(kept_back)}" if kept_back else model if isinstance(model, str) else ""
    again: Sequence[Mapping[str, Any]] = [{"was_run": False, "why": why}] * len(places)
    contributions: Sequence[Sequence[Mapping[str, Any]]] = [()] * len(places)
    if not why and isinstance(model, Model):
        arrays = arrays_of(batch, model.manifest.signature)
        again = _again(model, arrays, answered, places)
        if len(model.manifest.signature.inputs) <= MOST_EXPLAINED:
            contributions = _contributions(model, arrays.take(places))
    found = []
    for place, ran, parts in zip(places.tolist(), again, contributions, strict=True):
        outputs = {name: values[place] for name, values in answered.items()}
        found.append(
            {
                "request": _request(segment, batch, place),
                "inputs": _inputs(segment, batch, place, model),
                "prediction": None if isinstance(model, str) else _prediction(model, outputs),
                "outputs": {name: values.tolist() for name, values in outputs.items()},
                "bits": {name: values.tobytes().hex() for name, values in outputs.items()},
                "again": dict(ran),
                "explanation": parts[0] if len(parts) == 1 else None,
                **({"explanations": list(parts)} if len(parts) > 1 else {}),
                "proof": _proof(header, model),
                "model": _card(header, model),
            }
        )
    return found


def _request(segment: CheckedSegment, batch: pa.RecordBatch, place: int) -> dict[str, Any]:
    time = batch["time"][place].as_py().astimezone(UTC)
    named = {name: batch[name][place].as_py() for name in ("request_id", "row", "caller", "protocol")}
    kept = {
        "segment": segment.path.name,
        "segment_sha256": segment.covered.digest,
        "segment_finished": segment.covered.is_finished,
        "segment_has_signature": segment.covered.signature is not None,
        "segment_signature_checked": segment.signed,
    }
    return {**named, "time": time.isoformat(timespec="microseconds"), **kept}


def _inputs(segment: CheckedSegment, batch: pa.RecordBatch, place: int, model: Model | str) -> list[dict[str, Any]]:
    """Return each feature's value, or why there is none; without the model, the number or code that was kept."""
    features: dict[str, Feature] = {}
    if isinstance(model, Model):
        features = {feature.name: feature for feature in model.manifest.signature.inputs}
    found: list[dict[str, Any]] = []
    for column in (name for name in batch.schema.names if name.startswith(INPUT)):
        name, value = column.removeprefix(INPUT), batch[column][place].as_py()
        if isinstance(value, bytes):
            found.append({"name": name, "value": None, "note": f"kept as the hash {value.hex()}"})
        elif name in features:
            plain = shown(features[name], value)
            found.append({"name": name, "value": plain.value, "note": plain.note})
        else:
            is_number = value == value  # noqa: PLR0124 - NaN has no place in JSON
            found.append({"name": name, "value": value if is_number else None, "note": "as the model got it"})
    left_out = [{"name": name, "value": None, "note": "left out of the journal"} for name in segment.header["left_out"]]
    return found + left_out


def _prediction(model: Model, outputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
    (prediction,) = Decoder(model.manifest).decode({name: values[None, :] for name, values in outputs.items()})
    return prediction


def _again(model: Model, arrays: Arrays, answered: Outputs, places: np.ndarray) -> list[dict[str, Any]]:
    """Run the rows alone, and those that were written together with the golden rows; returns whether bits are the same."""
    lone = alone(model.runner, arrays.take(places))
    joined = beside_golden_rows(model, arrays)
    rows = len(next(iter(answered.values()))) + len(model.bundle.golden.rows)
    is_alone, is_joined = np.ones(len(places), bool), np.ones(len(places), bool)
    for name, wanted in answered.items():
        own = row_bytes(np.ascontiguousarray(wanted[places]))
        is_alone &= (own == row_bytes(np.ascontiguousarray(lone[name]))).all(axis=1)
        is_joined &= (own == row_bytes(np.ascontiguousarray(joined[name][places]))).all(axis=1)
    return [
        {"was_run": True, "equal_alone": first, "equal_in_batch": second, "batch_rows": rows}
        for first, second in zip(is_alone.tolist(), is_joined.tolist(), strict=True)
    ]


def _contributions(model: Model, arrays: Arrays) -> list[list[dict[str, Any]]]:
    """Return what each feature adds to each row's score: the predicted class's for classes, one for each of several targets."""
    signature = model.manifest.signature
    plan = attribution.plan(len(signature.inputs))
    (own,) = model.runner.run([arrays])
    explained = []
    for row in range(len(next(iter(own.values())))):
        mixed = attribution.expand(plan, arrays.take(slice(row, row + 1)), baseline_of(model.manifest), signature)
        (ran,) = model.runner.run([mixed])
        scores = ran["value"] if signature.classes is None else attribution.centred(ran["scores"])
        of: dict[str, int] = {target: column for column, target in enumerate(signature.targets or ())} or {"value": 0}
        if signature.classes is not None:
            winner = int(model.manifest.label_places(own["probabilities"][row : row + 1])[0])
            of = {"score of the predicted class": winner}
        reduced = attribution.reduce(plan, scores)
        names = [feature.name for feature in signature.inputs]
        explained.append(
            [
                {
                    "of": what,
                    "score": reduced.scores[0, column].item(),
                    "baseline": reduced.baseline[0, column].item(),
                    "is_exact": plan.is_exact,
                    "contributions": dict(zip(names, reduced.values[0, :, column].tolist(), strict=True)),
                    "standard_errors": dict(zip(names, reduced.errors[0, :, column].tolist(), strict=True)),
                }
                for what, column in of.items()
            ]
        )
    return explained


def _proof(header: Mapping[str, Any], model: Model | str) -> dict[str, Any]:
    """Return what stands for the bits: when it answered, and now."""
    then = header["fingerprint"]
    proof = {
        "arithmetic": then.get("arithmetic", ""),
        "when_answered": then.get("invariance", ""),
        "engine_when_answered": then.get("engine", ""),
        "signer_when_answered": then.get("signer", ""),
    }
    if isinstance(model, str):
        return proof
    certificate = model.manifest.arithmetic.certificate or {}
    now = {"now": model.fingerprint["invariance"], "engine_now": model.fingerprint["engine"]}
    sentence = model.verification.sentence if model.verification else ""
    return {**proof, **now, "sentence": sentence, "claim": certificate.get("claim", "")}


def _card(header: Mapping[str, Any], model: Model | str) -> dict[str, Any]:
    """Return what the bundle says of the model: nothing but its name where the bundle is not there."""
    named = {"name": header["model"], "version": header["version"], "sha256": header["seal"]}
    if isinstance(model, str):
        return named
    manifest: Manifest = model.manifest
    provenance = manifest.provenance
    return {
        **named,
        "task": manifest.task,
        "target": manifest.signature.predicted,
        "metrics": manifest.metrics,
        "trained": provenance.get("created"),
        "data": provenance.get("data", {}),
        "settings": {name: value for name, value in provenance.get("settings", {}).items() if value not in (None, [])},
        "versions": provenance.get("versions", {}),
        "warnings": provenance.get("warnings", []),
    }
