"""From prepared data to a fitted network: what the settings leave open is decided by rule, and among plans by trial."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training import choose, plan, rules
from training import fit as fits
from training import preprocess as preprocesses
from training import target as targets
from training.checkpoint import Checkpoint
from training.data import Data
from training.fit import FitResult, FitSettings, Hooks
from training.network import Network, NetworkSettings
from training.plan import Plan
from training.preprocess import Preprocess, Raw
from training.progress import Progress
from training.rows import Rows, encode
from training.settings import SettingError, Settings
from training.target import Target

CHOSEN = "plan"  # name of the checkpoint's entry that says which plan is being fitted


@dataclass(frozen=True)
class Fitted:
    """The best network of a fit, with all that it was fitted with."""

    preprocess: Preprocess
    target: Target
    rows: dict[str, Rows]  # train, validation
    result: FitResult
    chosen: dict[str, Any]  # what was decided, for provenance


@dataclass(frozen=True)
class Site:
    """What every fit of one table shares."""

    data: Data
    target: Target
    progress: Progress
    stop: Callable[[], bool]

    @classmethod
    def of(cls, data: Data, progress: Progress, stop: Callable[[], bool]) -> "Site":
        """Fit the target's scale to the training rows."""
        return cls(data, targets.fit(data.goal.task, data.y("train"), len(data.goal.classes or ())), progress, stop)

    def fit(
        self,
        plan: Plan,
        sampled: int | None = None,
        resume: Mapping[str, Tensor] | None = None,
        checkpoint: Callable[[dict[str, Tensor]], None] | None = None,
    ) -> Fitted:
        """Fit as planned, to all training rows or to at most `sampled` of them, of which no epoch is shown."""
        raws, ys, weights = self._parts(plan.fit.seed, sampled)
        classes = self.data.goal.classes is not None
        preprocess = preprocesses.fit(raws["train"], ys["train"], classes=classes, encoding=plan.encoding)
        rows = {part: encode(preprocess, self.target, raws[part], ys[part], weights[part]) for part in raws}
        torch.manual_seed(plan.fit.seed)
        tables = tables_of(self.data, preprocess)
        network = Network(preprocess.width, tables, self.target.outputs, plan.network)
        hooks = Hooks(None if sampled else self.progress.epoch, self.stop, checkpoint)
        result = fits.fit(network, self.target, rows["train"], rows["validation"], plan.fit, hooks, resume)
        return Fitted(preprocess, self.target, rows, result, asdict(plan))

    def _parts(
        self, seed: int, sampled: int | None
    ) -> tuple[dict[str, Raw], dict[str, np.ndarray], dict[str, np.ndarray | None]]:
        raws, ys, weights = {}, {}, {}
        for part in ("train", "validation"):
            raw, y, weight = Raw(*self.data.arrays[part]), self.data.y(part), self.data.weights(part)
            if sampled is not None:
                index = choose.sample(len(y), sampled, seed).numpy()
                raw, y = Raw(*(None if array is None else array[index] for array in raw)), y[index]
                weight = None if weight is None else weight[index]
            raws[part], ys[part], weights[part] = raw, y, weight
        return raws, ys, weights


def fit_table(
    data: Data, settings: Settings, progress: Progress, stop: Callable[[], bool], checkpoint: Checkpoint | None = None
) -> Fitted:
    """Fit a network to the training rows; `stop` is asked after each epoch."""
    rows = len(data.split.train)
    before = torch.get_num_threads()
    torch.set_num_threads(settings.threads or min(before, rules.most_threads(rows)))
    try:
        return _fit_table(data, settings, Site.of(data, progress, stop), checkpoint)
    finally:
        torch.set_num_threads(before)


def _fit_table(data: Data, settings: Settings, site: Site, checkpoint: Checkpoint | None) -> Fitted:
    rows = len(data.split.train)
    resume = checkpoint.load() if settings.resume and checkpoint is not None else None
    plans = plan.plans(rows, network_settings_of(rows, settings), fit_settings_of(rows, settings), settings.encoding)
    if len(plans) > 1 and rows <= rules.FULL_ROWS:
        return fitted_in_full(site, plans, resume, checkpoint)
    number = chosen_on_sample(site, plans) if resume is None else int(resume[CHOSEN])
    return site.fit(plans[number], resume=resume, checkpoint=marked(checkpoint, number))


def marked(checkpoint: Checkpoint | None, number: int) -> Callable[[dict[str, Tensor]], None] | None:
    """Return what keeps a fit's state together with the number of its plan."""
    if checkpoint is None:
        return None
    save, mark = checkpoint.save, {CHOSEN: torch.tensor(number)}
    return lambda state: save(state | mark)


def fitted_in_full(
    site: Site, plans: list[Plan], resume: Mapping[str, Tensor] | None, checkpoint: Checkpoint | None
) -> Fitted:
    """Fit every plan to all training rows and keep the winner; an interruption keeps the best of those begun.

    A resumed run fits the plans before the interrupted one again: they take seconds, and give the same bits.
    """
    begun = None if resume is None else int(resume[CHOSEN])
    fits_: list[Fitted] = []
    for number, candidate in enumerate(plans):
        state = resume if number == begun else None
        fits_.append(site.fit(candidate, resume=state, checkpoint=marked(checkpoint, number)))
        say_trial(site, candidate, fits_[-1], len(fits_), len(plans))
        if site.stop():
            break
    return fits_[choose.winner([validation_losses(fitted) for fitted in fits_])]


def chosen_on_sample(site: Site, plans: list[Plan]) -> int:
    """Return which plan wins short fits on a sample; the first where there is nothing to choose or no time."""
    losses: list[Tensor] = []
    rows = min(rules.SAMPLE_ROWS, len(site.data.split.train))
    for candidate in plans if len(plans) > 1 else []:
        trial = site.fit(plan.shortened(candidate, rows), sampled=rows)
        losses.append(validation_losses(trial))
        say_trial(site, candidate, trial, len(losses), len(plans))
        if site.stop():
            break
    return choose.winner(losses) if losses else 0


def validation_losses(fitted: Fitted) -> Tensor:
    """Return the loss of each validation row [rows]."""
    rows = fitted.rows["validation"]
    return rows.weighed(fitted.target.held_losses(fits.scores_of(fitted.result.network, rows), rows.y))


def say_trial(site: Site, candidate: Plan, fitted: Fitted, number: int, of: int) -> None:
    """Tell how one plan did."""
    loss = fitted.result.best.validation_loss
    site.progress.say(f"plan {number} of {of}, {candidate.name!r}: validation loss {loss:.4f}")


def network_settings_of(rows: int, settings: Settings) -> NetworkSettings:
    """Return the network that the rules give for `rows` training rows, less what the settings say otherwise."""
    given = {"widths": settings.widths, "members": settings.ensemble, "dropout": settings.dropout}
    given |= {"eps": settings.eps, "momentum": settings.momentum, "affine": settings.affine}
    return replace(rules.network_settings(rows), **_said(given))


def fit_settings_of(rows: int, settings: Settings) -> FitSettings:
    """Return the fit that the rules give for `rows` training rows, less what the settings say otherwise."""
    given = {
        "epochs": settings.epochs,
        "batch_rows": settings.batch_rows,
        "learning_rate": settings.learning_rate,
        "weight_decay": settings.weight_decay,
        "average_decay": settings.ema,
        "patience": settings.patience,
        "clip_norm": settings.clip,
        "seed": settings.seed,
        "device": device_of(settings.device),
    }
    return replace(rules.fit_settings(rows), **_said(given))


def device_of(wanted: str) -> str:
    """Return the torch device to fit on; SettingError where CUDA is asked for and absent."""
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise SettingError("--device cuda was asked for, but torch finds no CUDA device here: use cpu or auto.")
    return "cuda" if wanted != "cpu" and available else "cpu"


def tables_of(data: Data, preprocess: Preprocess) -> list[tuple[int, int]]:
    """Return (codes, dimensions) of each embedded column: its categories, missing and unseen."""
    features = data.signature.categorical
    counts = [len(features[column].categories or ()) + 2 for column in preprocess.embedded.tolist()]
    return [(count, rules.dimensions(count)) for count in counts]


def _said(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}
