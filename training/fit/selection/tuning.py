"""Hyperparameter search with Optuna, by validation loss, never by the test rows; unpromising trials are pruned.

Only settings that were not set are searched. The first trial has the default settings, so the result is never worse than
the defaults on the validation rows. Every trial is in a journal file: a run that was killed, or one with more trials,
continues from there.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from batchproof.installation import hint
from batchproof.training.data.dataset import Dataset
from batchproof.training.fit.loop import Epoch
from batchproof.training.fit.progress import Progress, Silent, duration
from batchproof.training.fit.selection.candidates import ENCODINGS, candidates_of
from batchproof.training.fit.selection.fit_best import fit_best
from batchproof.training.settings import SettingError, Settings

WIDTHS = (32, 64, 128, 256, 512)
DEPTHS = (1, 3)
MEMBERS = (1, 2, 4, 8)
BATCHES = (32, 64, 128, 256, 512, 1024)
STARTUP_TRIALS = 5  # that are never pruned
WARMUP_EPOCHS = 5  # of every trial, before it may be pruned


def search(
    data: Dataset,
    settings: Settings,
    journal: Path,
    key: str,
    progress: Progress,
    stop: Callable[[], bool],
) -> Settings:
    """Return the settings with the least validation loss; `key` names the data and settings that `journal` is for."""
    optuna = library()
    journal.parent.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name=key,
        storage=optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal))),
        sampler=optuna.samplers.TPESampler(seed=settings.seed),
        pruner=optuna.pruners.MedianPruner(STARTUP_TRIALS, WARMUP_EPOCHS),
        load_if_exists=True,
    )
    before = len(finished(study))
    if before:
        progress.say(f"continuing a search of {before} trials: {journal}")
    else:
        study.enqueue_trial(default_parameters(data, settings))
    remaining = None if settings.tune is None else max(0, settings.tune - before)
    if remaining != 0:
        study.optimize(
            lambda trial: _loss(optuna, trial, data, settings, stop),
            n_trials=remaining,
            timeout=settings.time_budget_s,
            callbacks=[_reporter(progress, settings, stop)],
        )
    if not any(trial.state.name == "COMPLETE" for trial in study.trials):
        raise SettingError("the search ended before its first trial: give it a longer --time-budget-s.")
    progress.say(f"the best of {len(finished(study))} trials: {study.best_params}")
    return replace(settings, **_as_settings(study.best_params))


def library() -> ModuleType:
    """Return Optuna, quiet; SettingError where it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise SettingError(f"--tune needs the package optuna: {hint('tune')}.") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def suggested(trial: Any, settings: Settings) -> Settings:
    """Return the settings of a trial: those that were given stay, those that were left open are drawn."""
    drawn: dict[str, Any] = {}
    if settings.widths is None:
        drawn["depth"] = trial.suggest_int("depth", *DEPTHS)
        drawn["width"] = trial.suggest_categorical("width", WIDTHS)
    draws: dict[str, Callable[[str], Any]] = {
        "ensemble": lambda name: trial.suggest_categorical(name, MEMBERS),
        "dropout": lambda name: trial.suggest_float(name, 0.0, 0.5),
        "encoding": lambda name: trial.suggest_categorical(name, tuple(ENCODINGS)),
        "batch_rows": lambda name: trial.suggest_categorical(name, BATCHES),
        "learning_rate": lambda name: trial.suggest_float(name, 3e-4, 2e-2, log=True),
        "weight_decay": lambda name: trial.suggest_float(name, 1e-4, 1.0, log=True),
    }
    drawn |= {name: draw(name) for name, draw in draws.items() if getattr(settings, name) is None}
    return replace(settings, **_as_settings(drawn))


def default_parameters(data: Dataset, settings: Settings) -> dict[str, Any]:
    """Return the open settings of the preferred candidate, as the parameters of a trial."""
    preferred = candidates_of(data, settings)[0]
    network, fit = preferred.network, preferred.fit
    parameters = {
        "ensemble": network.members,
        "dropout": network.dropout,
        "encoding": preferred.name,
        "batch_rows": fit.batch_rows,
        "learning_rate": fit.learning_rate,
        "weight_decay": fit.weight_decay,
    }
    searched = {name: value for name, value in parameters.items() if getattr(settings, name) is None}
    if settings.widths is not None:
        return searched
    return {"depth": len(network.widths), "width": network.widths[0], **searched}


def finished(study: Any) -> list[Any]:
    """Return the trials that ended: complete, pruned, or failed on a loss that is not a number."""
    return [trial for trial in study.trials if trial.state.is_finished()]


class _TrialProgress(Silent):
    """Reports each epoch to the trial, which may prune the fit."""

    def __init__(self, optuna: ModuleType, trial: Any) -> None:
        super().__init__()
        self._optuna, self._trial = optuna, trial

    def epoch(self, epoch: Epoch, epochs: int) -> None:  # noqa: ARG002 - the interface of every progress
        """Report the loss; raises TrialPruned where the trial is unpromising."""
        self._trial.report(epoch.validation_loss, epoch.number)
        if self._trial.should_prune():
            raise self._optuna.TrialPruned


def _loss(optuna: ModuleType, trial: Any, data: Dataset, settings: Settings, stop: Callable[[], bool]) -> float:
    drawn = replace(suggested(trial, settings), resume=False)
    candidates = candidates_of(data, drawn)
    fitted = fit_best(data, candidates, drawn, _TrialProgress(optuna, trial), stop)
    return fitted.result.best.validation_loss


def _reporter(progress: Progress, settings: Settings, stop: Callable[[], bool]) -> Callable[[Any, Any], None]:
    start_s = time.monotonic()
    planned = f" of {settings.tune}" if settings.tune else ""

    def report(study: Any, trial: Any) -> None:
        is_complete = trial.value is not None and trial.state.name != "PRUNED"
        result = f"validation loss {trial.value:.4f}" if is_complete else "pruned"
        losses = [other.value for other in study.trials if other.state.name == "COMPLETE"]
        best = f", best {min(losses):.4f}" if losses else ""
        elapsed = duration(time.monotonic() - start_s)
        progress.say(f"trial {trial.number + 1}{planned}: {result}{best}  {elapsed} so far")
        if stop():
            study.stop()

    return report


def _as_settings(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of a trial as settings: depth and width become `widths`."""
    values = dict(parameters)
    if "depth" in values:
        values["widths"] = (values.pop("width"),) * values.pop("depth")
    return values
