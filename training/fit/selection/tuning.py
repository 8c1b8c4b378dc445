"""A search of settings with Optuna: by validation loss, never by the test rows; hopeless fits are ended early.

Only settings that were left open are searched. The first trial is what the rules would choose, so that the search
ends no worse than it began, on the validation rows. Every trial is in a journal file: a run that was killed, or is
asked for more trials, goes on from there.
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
from batchproof.training.fit.selection import defaults as rules
from batchproof.training.fit.selection.candidates import ENCODINGS, fit_settings_of, network_settings_of
from batchproof.training.fit.selection.fit_table import fit_table
from batchproof.training.settings import SettingError, Settings

WIDTHS = (32, 64, 128, 256, 512)
DEPTHS = (1, 3)
MEMBERS = (1, 2, 4, 8)
BATCHES = (32, 64, 128, 256, 512, 1024)
STARTUP_TRIALS = 5  # that are never ended early
WARMUP_EPOCHS = 5  # of every trial, before it may be ended


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
        progress.say(f"going on with a search of {before} trials: {journal}")
    else:
        study.enqueue_trial(by_rule(data, settings))
    left = None if settings.tune is None else max(0, settings.tune - before)
    if left != 0:
        study.optimize(
            lambda trial: _loss(optuna, trial, data, settings, stop),
            n_trials=left,
            timeout=settings.time_budget_s,
            callbacks=[_teller(progress, settings, stop)],
        )
    if not any(trial.state.name == "COMPLETE" for trial in study.trials):
        raise SettingError("the search ended before one trial did: give it a longer --time-budget-s.")
    progress.say(f"the best of {len(finished(study))} trials: {study.best_params}")
    return replace(settings, **_chosen(study.best_params))


def library() -> ModuleType:
    """Return Optuna, quiet; SettingError where it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise SettingError(f"--tune needs the package optuna: {hint('tune')}.") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def suggested(trial: Any, settings: Settings) -> Settings:
    """Return the settings of a trial: what was given stays, what was left open is drawn."""
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
    return replace(settings, **_chosen(drawn))


def by_rule(data: Dataset, settings: Settings) -> dict[str, Any]:
    """Return what the rules would choose, as the parameters of a trial."""
    rows = len(data.split.train)
    network, fit = network_settings_of(rows, settings), fit_settings_of(rows, settings)
    ruled = {
        "ensemble": network.members,
        "dropout": network.dropout,
        "encoding": rules.encodings(rows)[0],
        "batch_rows": fit.batch_rows,
        "learning_rate": fit.learning_rate,
        "weight_decay": fit.weight_decay,
    }
    open_ = {name: value for name, value in ruled.items() if getattr(settings, name) is None}
    if settings.widths is not None:
        return open_
    return {"depth": len(network.widths), "width": network.widths[0], **open_}


def finished(study: Any) -> list[Any]:
    """Return the trials that ended: complete, ended early, or failed on a loss that is no number."""
    return [trial for trial in study.trials if trial.state.is_finished()]


class _Watched(Silent):
    """Hands each epoch to the trial, which may end the fit."""

    def __init__(self, optuna: ModuleType, trial: Any) -> None:
        super().__init__()
        self._optuna, self._trial = optuna, trial

    def epoch(self, epoch: Epoch, epochs: int) -> None:  # noqa: ARG002 - what every progress takes
        """Report the loss; raises TrialPruned where the trial is hopeless."""
        self._trial.report(epoch.validation_loss, epoch.number)
        if self._trial.should_prune():
            raise self._optuna.TrialPruned


def _loss(optuna: ModuleType, trial: Any, data: Dataset, settings: Settings, stop: Callable[[], bool]) -> float:
    fitted = fit_table(data, replace(suggested(trial, settings), resume=False), _Watched(optuna, trial), stop)
    return fitted.result.best.validation_loss


def _teller(progress: Progress, settings: Settings, stop: Callable[[], bool]) -> Callable[[Any, Any], None]:
    start_s = time.monotonic()
    planned = f" of {settings.tune}" if settings.tune else ""

    def tell(study: Any, trial: Any) -> None:
        found = (
            "ended early"
            if trial.value is None or trial.state.name == "PRUNED"
            else f"validation loss {trial.value:.4f}"
        )
        complete = [one.value for one in study.trials if one.state.name == "COMPLETE"]
        best = f", best {min(complete):.4f}" if complete else ""
        progress.say(f"trial {trial.number + 1}{planned}: {found}{best}  {duration(time.monotonic() - start_s)} so far")
        if stop():
            study.stop()

    return tell


def _chosen(params: dict[str, Any]) -> dict[str, Any]:
    """Return parameters of a trial as settings: depth and width are `widths`."""
    found = dict(params)
    if "depth" in found:
        found["widths"] = (found.pop("width"),) * found.pop("depth")
    return found
