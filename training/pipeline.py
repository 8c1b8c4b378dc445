"""The line from a table to a bundle: prepare -> fit -> freeze -> fold -> export -> check -> measure -> write.

What loads torch or scikit-learn is imported where it is first needed: that takes seconds, and most faults of a table
show in its header.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from batchproof.training.data.dataset import Dataset, prepare
from batchproof.training.export.destination import BundlePath, place_of
from batchproof.training.fit.checkpoint import Checkpoint, run_of
from batchproof.training.fit.interrupt import Interruption
from batchproof.training.fit.progress import Progress, Silent, duration
from batchproof.training.settings import Settings


@dataclass(frozen=True)
class Trained:
    """A written bundle and what its report says."""

    folder: Path
    data: Dataset
    metrics: dict[str, Any]  # on the test rows
    seconds: float


def train(path: Path, settings: Settings, progress: Progress | None = None, start_s: float | None = None) -> Trained:
    """Train on the table at `path` and write a bundle; its seconds count from `start_s` of time.monotonic, or from now.

    Raises TableError, SettingError, CheckpointError, ParityError, ProofError or WriteError; then nothing was written.
    """
    start_s, progress = time.monotonic() if start_s is None else start_s, progress or Silent()
    place = place_of(path, settings)
    if settings.device == "cuda":
        from batchproof.training.fit.selection.candidates import device_of

        device_of(settings.device)  # refuses before a large table is read
    data = prepare(path, settings)
    return trained(data, place, settings, progress, start_s)


def trained(data: Dataset, place: BundlePath, settings: Settings, progress: Progress, start_s: float) -> Trained:
    """Train on a prepared table; see `train`."""
    from batchproof.training import trained_model as model
    from batchproof.training.data import leakage as leaks

    findings = leaks.find(data.signature, data.arrays, data.goal, data.split)
    for line in (*data.lines(), *findings.lines(data.split)):
        progress.say(line)
    if settings.tune or settings.time_budget_s:
        settings = tuned(data, place, settings, progress)
    checkpoint = checkpoint_of(place, data, settings)
    if settings.tensorboard is not None:
        from batchproof.training.fit.tensorboard import TensorBoardProgress

        progress = TensorBoardProgress(progress, Path(settings.tensorboard) / place.name / str(place.version))
    with Interruption(progress.say) as interruption:
        made = model.fit(data, settings, progress, lambda: interruption.asked, checkpoint)
    folder, content = made.write(place, time.monotonic() - start_s, findings)
    checkpoint.remove()
    place.journal.unlink(missing_ok=True)
    seconds = time.monotonic() - start_s
    said = ", ".join(
        f"{name} {value:.4g}" for name, value in content["metrics"].items() if name not in ("rows", "part")
    )
    progress.say(f"test rows: {said}\nwrote {folder} in {duration(seconds)}")
    return Trained(folder, data, content["metrics"], seconds)


def tuned(data: Dataset, place: BundlePath, settings: Settings, progress: Progress) -> Settings:
    """Search settings; Ctrl-C ends the search, not the run."""
    from batchproof.training.fit.selection import tuning

    key = Checkpoint(place.checkpoint, run_of(data, replace(settings, tune=None, time_budget_s=None))).key
    with Interruption(progress.say) as interruption:
        return tuning.search(data, settings, place.journal, key, progress, lambda: interruption.asked)


def checkpoint_of(place: BundlePath, data: Dataset, settings: Settings) -> Checkpoint:
    """Return the run's checkpoint: --resume takes it only for the same data and settings."""
    return Checkpoint(place.checkpoint, run_of(data, settings))
