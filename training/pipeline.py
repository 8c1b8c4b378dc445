"""The training pipeline: `train` and `fit` contain all steps, from a table to a bundle, in order.

Prepare, list the candidates, fit the best, freeze the statistics, fold, export, check parity, evaluate, write. Modules
that load torch or scikit-learn are imported inside the functions, because that takes seconds and most faults of a table
show in its header.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchproof.training.cli.interrupt import Interruption
from batchproof.training.data.dataset import Dataset, prepare
from batchproof.training.data.tables.storage import give_back
from batchproof.training.data.tables.table_error import TableError
from batchproof.training.distributed.place import Place, place_of
from batchproof.training.export.destination import BundlePath, bundle_path
from batchproof.training.fit.checkpoint import Checkpoint, deciding, run_key
from batchproof.training.fit.progress import Progress, Silent, duration
from batchproof.training.settings import SettingError, Settings, flag

if TYPE_CHECKING:  # they load torch
    from batchproof.training.distributed.group import Group
    from batchproof.training.fit.context import Fitted
    from batchproof.training.network.network import Network
    from batchproof.training.trained_model import Model


@dataclass(frozen=True)
class Trained:
    """A written bundle and what its report says."""

    folder: Path
    data: Dataset
    metrics: dict[str, Any]  # on the test rows
    seconds: float


def train(
    path: Path, settings: Settings, progress: Progress | None = None, start_s: float | None = None
) -> Trained | None:
    """Train on the table at `path` and write a bundle; its seconds count from `start_s` of time.monotonic, or from now.

    In a run of several processes all call this, and only the first writes, talks and returns something.
    Raises TableError, ScratchError, SettingError, CheckpointError, GroupError, ParityError, ProofError or WriteError; then nothing was written.
    """
    start_s, progress = time.monotonic() if start_s is None else start_s, progress or Silent()
    place = place_of(settings)
    with prepared(path, settings, place, progress) as (group, destination, data):
        if destination is not None:
            return train_prepared(data, settings, destination, progress, start_s, group)
        with Interruption(Silent().say) as interruption:
            learn(data, settings, Silent(), lambda: interruption.asked, group=group)
    return None


def train_prepared(
    data: Dataset,
    settings: Settings,
    destination: BundlePath,
    progress: Progress,
    start_s: float,
    group: "Group | None" = None,
) -> Trained:
    """Train on a prepared table, alone or as the first process of a group, and write a bundle."""
    from batchproof.training.report.live import finish, live_page

    title = f"{destination.name} {destination.version}"
    about = f"Predicts {data.signature.predicted} from {len(data.signature.inputs)} features; {len(data.split.train):,} training rows."
    with live_page(progress, settings.live, title, about, start_s) as shown:
        trained = _train_shown(data, settings, destination, shown, start_s, group)
        finish(shown, trained.folder)
    return trained


def _train_shown(
    data: Dataset,
    settings: Settings,
    destination: BundlePath,
    progress: Progress,
    start_s: float,
    group: "Group | None",
) -> Trained:
    from batchproof.training.data.leakage import find
    from batchproof.training.evaluation.evaluate import evaluate
    from batchproof.training.trained_model import write

    findings = find(data.signature, data.arrays, data.target, data.split)
    for line in data.lines():
        progress.say(line)
    settings = tuned(data, destination, settings, progress)
    checkpoint = Checkpoint(destination.checkpoint, run_key(data, settings, group.shard_count if group else None))
    with Interruption(progress.say) as interruption:
        logged = logging_progress(progress, destination, settings)
        model = fit(data, settings, logged, lambda: interruption.asked, checkpoint, group)
    evaluation = evaluate(data.measured(), model.compiled, model.decided)
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
    group: "Group | None" = None,
) -> "Model":
    """Fit to a prepared table, fold and export; nothing is written but the checkpoint. `stop` is asked after each epoch.

    Raises CheckpointError, GroupError, SettingError, ParityError or ProofError.
    """
    from batchproof.training.evaluation import threshold
    from batchproof.training.export.compile import check_parity, export, fold
    from batchproof.training.trained_model import Model

    fitted, frozen = learn(data, settings, progress, stop, checkpoint, group)
    folding = fold(fitted, frozen, data.prior)
    compiled = export(data, fitted, frozen, folding, settings.arithmetic)
    parity = check_parity(data, fitted, folding, compiled)
    decided = threshold.choose(data.measured(), compiled.run, settings.threshold)
    if decided is not None:
        progress.say(threshold.line(data, decided.decision))
    return Model(data, settings, fitted, compiled, parity, decided)


def learn(
    data: Dataset,
    settings: Settings,
    progress: Progress,
    stop: Callable[[], bool] = lambda: False,
    checkpoint: Checkpoint | None = None,
    group: "Group | None" = None,
) -> tuple["Fitted", "Network"]:
    """Fit to a prepared table and freeze the batch-norm statistics: the part that the processes of a group share."""
    from batchproof.training.fit.selection.candidates import candidates_of
    from batchproof.training.fit.selection.fit_best import fit_best
    from batchproof.training.network.batchnorm import recompute

    candidates = candidates_of(data, settings)
    fitted = fit_best(data, candidates, settings, progress, stop, checkpoint, group)
    progress.say("recomputing batch-norm statistics over all training rows, folding, checking")
    return fitted, recompute(fitted.result.network, fitted.rows["train"], group=group)


@contextmanager
def prepared(
    path: Path, settings: Settings, place: Place | None, progress: Progress
) -> "Iterator[tuple[Group | None, BundlePath | None, Dataset]]":
    """Prepare the table at `path`; where this process is one of several, the others must have prepared the same one.

    Only the process that writes gets a destination.
    """

    def work() -> tuple[BundlePath | None, Dataset]:
        destination = bundle_path(path, settings) if place is None or place.first else None
        check_device(settings)
        data = prepare(path, settings, Silent().say if destination is None else progress.say)
        give_back()  # the table itself, of which columns and rows were made
        return destination, data

    def facts(result: tuple[BundlePath | None, Dataset]) -> dict[str, str]:
        shown = {flag(name): str(value) for name, value in deciding(settings).items()}
        return {"table": f"SHA-256 {result[1].table.sha256}", **shown}

    if place is None:
        yield None, *work()
        return
    from batchproof.training.distributed.meeting import meeting
    from batchproof.training.fit.selection.candidates import device_of

    faults = (TableError, SettingError, OSError)
    with meeting(place, device_of(settings.device), work, facts, faults) as (group, result):
        yield group, *result


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
