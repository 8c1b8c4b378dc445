"""The training pipeline: `train` and `fit` contain all steps, from a table to a bundle, in order.

Prepare, list the candidates, fit the best, freeze the statistics, fold, export, check parity, evaluate, write. Modules
that load torch or scikit-learn are imported inside the functions, because that takes seconds and most faults of a table
show in its header.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchproof.training.data.dataset import Dataset, prepare
from batchproof.training.export.destination import BundlePath, bundle_path
from batchproof.training.fit.checkpoint import Checkpoint, run_key
from batchproof.training.fit.interrupt import Interruption
from batchproof.training.fit.progress import Progress, Silent, duration
from batchproof.training.settings import Settings

if TYPE_CHECKING:  # it loads torch
    from batchproof.training.trained_model import Model


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
    destination = bundle_path(path, settings)
    check_device(settings)
    data = prepare(path, settings)

    from batchproof.training.data.leakage import find
    from batchproof.training.evaluation.evaluate import evaluate
    from batchproof.training.trained_model import write

    findings = find(data.signature, data.arrays, data.target, data.split)
    for line in data.lines():
        progress.say(line)
    settings = tuned(data, destination, settings, progress)
    checkpoint = Checkpoint(destination.checkpoint, run_key(data, settings))
    with Interruption(progress.say) as interruption:
        logged = logging_progress(progress, destination, settings)
        model = fit(data, settings, logged, lambda: interruption.asked, checkpoint)
    evaluation = evaluate(data, model.compiled, model.decided)
    folder = write(model, evaluation, findings, destination, time.monotonic() - start_s)
    checkpoint.remove()
    destination.journal.unlink(missing_ok=True)
    seconds = time.monotonic() - start_s
    for line in (*findings.lines(data.split), *evaluation.warnings, *data.warning_lines()):
        progress.say(line)
    progress.say(f"{evaluation.summary()}\nwrote {folder} in {duration(seconds)}")
    return Trained(folder, data, evaluation.metrics, seconds)


def fit(
    data: Dataset,
    settings: Settings,
    progress: Progress,
    stop: Callable[[], bool] = lambda: False,
    checkpoint: Checkpoint | None = None,
) -> "Model":
    """Fit to a prepared table, fold and export; nothing is written but the checkpoint. `stop` is asked after each epoch.

    Raises CheckpointError, SettingError, ParityError or ProofError.
    """
    from batchproof.training.evaluation import threshold
    from batchproof.training.export.compile import check_parity, export, fold
    from batchproof.training.fit.selection.candidates import candidates_for
    from batchproof.training.fit.selection.fit_best import fit_best
    from batchproof.training.network.batchnorm import recompute
    from batchproof.training.trained_model import Model

    candidates = candidates_for(len(data.split.train), settings)
    fitted = fit_best(data, candidates, settings, progress, stop, checkpoint)
    progress.say("recomputing batch-norm statistics over all training rows, folding, checking")
    frozen = recompute(fitted.result.network, fitted.rows["train"])
    folding = fold(fitted, frozen)
    compiled = export(data, fitted, frozen, folding, settings.arithmetic)
    parity = check_parity(data, fitted, folding, compiled)
    decided = threshold.choose(data, compiled.run(data.arrays["validation"]), settings.threshold)
    if decided is not None:
        progress.say(threshold.line(data, decided.decision))
    return Model(data, settings, fitted, compiled, parity, decided)


def check_device(settings: Settings) -> None:
    """Refuse a missing CUDA device before a large table is read: SettingError."""
    if settings.device == "cuda":
        from batchproof.training.fit.selection.candidates import device_of

        device_of(settings.device)


def tuned(data: Dataset, destination: BundlePath, settings: Settings, progress: Progress) -> Settings:
    """Return the settings with the best of a search, if one was requested; Ctrl-C ends the search, not the run."""
    if not settings.tune and not settings.time_budget_s:
        return settings
    from batchproof.training.fit.selection import tuning

    key = run_key(data, replace(settings, tune=None, time_budget_s=None))
    with Interruption(progress.say) as interruption:
        return tuning.search(data, settings, destination.journal, key, progress, lambda: interruption.asked)


def logging_progress(progress: Progress, destination: BundlePath, settings: Settings) -> Progress:
    """Return a progress that also writes TensorBoard logs, if they were requested. Raises SettingError."""
    if settings.tensorboard is None:
        return progress
    from batchproof.training.fit.tensorboard import TensorBoardProgress

    return TensorBoardProgress(progress, Path(settings.tensorboard) / destination.name / str(destination.version))
