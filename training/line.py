"""The line from a table to a bundle: prepare -> fit -> freeze -> fold -> export -> check -> measure -> write."""

import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from service.features import Encoder
from training import bundle, exported, golden, leaks, measured, provenance, report, weights
from training.checkpoint import Checkpoint
from training.data import Data, prepare
from training.exported import Exported
from training.fitted import Fitted, fit_table
from training.interruption import Interruption
from training.progress import Progress, Silent, duration
from training.settings import SettingError, Settings

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Trained:
    """A written bundle and what its report says."""

    folder: Path
    data: Data
    metrics: dict[str, Any]  # on the test rows
    seconds: float


@dataclass(frozen=True)
class Place:
    """Where the bundle goes."""

    models: Path
    name: str
    version: int

    @property
    def checkpoint(self) -> Path:
        """The file that --resume goes on from; hidden, so that no service takes it for a version."""
        return self.models / self.name / ".checkpoint.safetensors"


def train(path: Path, settings: Settings, progress: Progress | None = None) -> Trained:
    """Train on the table at `path` and write a bundle.

    Raises TableError, SettingError, CheckpointError, ParityError, ProofError or WriteError; then nothing was written.
    """
    start_s, progress = time.monotonic(), progress or Silent()
    place = place_of(path, settings)
    data = prepare(path, settings)
    findings = leaks.find(data.signature, data.arrays, data.goal, data.split)
    for line in (*data.lines(), *findings.lines(data.split)):
        progress.say(line)
    checkpoint = checkpoint_of(place, data, settings)
    with Interruption(progress.say) as interruption:
        fitted = fit_table(data, settings, progress, lambda: interruption.asked, checkpoint)
    progress.say("recomputing batch-norm statistics over all training rows, folding, checking")
    made = exported.make(data, fitted, settings.arithmetic)
    content = describe(data, place, made)
    seconds = time.monotonic() - start_s
    content["provenance"] = provenance.collect(data, settings, fitted, findings, made.parity, seconds)
    folder = bundle.write(place.models, content, files_of(data, settings, fitted, made, content))
    checkpoint.remove()
    said = ", ".join(f"{name} {value:.4g}" for name, value in content["metrics"].items() if name != "rows")
    progress.say(f"test rows: {said}\nwrote {folder} in {duration(seconds)}")
    return Trained(folder, data, content["metrics"], seconds)


def place_of(path: Path, settings: Settings) -> Place:
    """Return where the bundle will go; SettingError where the name is none, or the version is taken."""
    name = settings.name or re.sub(r"[^A-Za-z0-9._-]+", "-", path.name.split(".")[0]).strip(".-_")
    if not NAME.fullmatch(name):
        raise SettingError(f"{name!r} cannot name a model: use letters, digits, '.', '_' and '-' (--name).")
    models = Path(settings.models)
    version = settings.version or bundle.next_version(models, name)
    if (models / name / str(version)).exists():
        raise SettingError(f"version {version} of {name!r} exists already: bundles are never overwritten.")
    return Place(models, name, version)


def checkpoint_of(place: Place, data: Data, settings: Settings) -> Checkpoint:
    """Return the run's checkpoint: --resume takes it only for the same data and settings."""
    told = {name: value for name, value in asdict(settings).items() if name not in ("models", "resume", "version")}
    return Checkpoint(place.checkpoint, {"data": data.table.sha256, "settings": told})


def describe(data: Data, place: Place, made: Exported) -> dict[str, Any]:
    """Return what bundle.json says, but for the provenance."""
    outputs = {part: made.run(data.arrays[part]) for part in ("validation", "test")}
    return {
        "name": place.name,
        "version": place.version,
        "task": data.goal.task,
        "signature": data.signature.model_dump(mode="json"),
        "arithmetic": measured.arithmetic(data, made),
        "metrics": measured.metrics_of(data, outputs["test"]),
        "uncertainty": measured.uncertainty(data, outputs),
    }


def files_of(
    data: Data, settings: Settings, fitted: Fitted, made: Exported, content: dict[str, Any]
) -> dict[str, bytes]:
    """Return the bundle's files beside bundle.json."""
    return {
        "model.onnx": made.model,
        "golden.json": golden_file(data, settings, made),
        "report.html": report.render(content, fitted.result.history),
        "weights.safetensors": weights.serialise(made.weights),
    }


def golden_file(data: Data, settings: Settings, made: Exported) -> bytes:
    """Draw synthetic rows, encode them as the service will, and store the engine's bits."""
    rows = golden.draw(data.signature, data.columns, data.split.train, settings.golden_rows, settings.seed)
    encoded = Encoder(data.signature).encode_rows(rows)
    assert not encoded.errors, f"the service takes the rows that are drawn: {encoded.errors[:1]}"
    return golden.serialise(rows, made.run(encoded.arrays))
