"""The line from a table to a bundle: prepare -> fit -> freeze -> fold -> export -> check -> measure -> write."""

import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from training import bundle, leaks, model
from training.checkpoint import Checkpoint
from training.data import Data, prepare
from training.interruption import Interruption
from training.model import Place
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
        made = model.fit(data, settings, progress, lambda: interruption.asked, checkpoint)
    folder, content = made.write(place, time.monotonic() - start_s, findings)
    checkpoint.remove()
    seconds = time.monotonic() - start_s
    said = ", ".join(
        f"{name} {value:.4g}" for name, value in content["metrics"].items() if name not in ("rows", "part")
    )
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
