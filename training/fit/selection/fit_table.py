"""From prepared data to a fitted network: what the settings leave open is decided by rule, and among plans by trial."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from batchproof.training.data.dataset import Dataset
from batchproof.training.fit.checkpoint import Checkpoint
from batchproof.training.fit.context import FitContext, Fitted
from batchproof.training.fit.plan import Plan
from batchproof.training.fit.progress import Progress
from batchproof.training.fit.selection import candidates as plan
from batchproof.training.fit.selection import choice as choose
from batchproof.training.fit.selection import defaults as rules
from batchproof.training.fit.selection.candidates import fit_settings_of, network_settings_of
from batchproof.training.fit.selection.trials import chosen_on_sample, say_trial, validation_losses
from batchproof.training.settings import Settings

CHOSEN = "plan"  # name of the checkpoint's entry that says which plan is being fitted


def fit_table(
    data: Dataset,
    settings: Settings,
    progress: Progress,
    stop: Callable[[], bool],
    checkpoint: Checkpoint | None = None,
) -> Fitted:
    """Fit a network to the training rows; `stop` is asked after each epoch."""
    site, rows = FitContext.of(data, progress, stop), len(data.split.train)
    resume = checkpoint.load() if settings.resume and checkpoint is not None else None
    plans = plan.plans(rows, network_settings_of(rows, settings), fit_settings_of(rows, settings), settings.encoding)
    allowed = settings.threads or torch.get_num_threads()
    threads = settings.threads or min(allowed, rules.most_threads(rows))
    if len(plans) > 1 and rows <= rules.FULL_ROWS:
        with on_threads(threads):
            return fitted_in_full(site, plans, resume, checkpoint)
    with on_threads(rules.most_threads(rules.SAMPLE_ROWS)):
        workers = allowed if plans[0].fit.device == "cpu" else 1
        number = chosen_on_sample(site, plans, workers) if resume is None else int(resume[CHOSEN])
    say_chosen(site, plans, number)
    with on_threads(threads):
        return site.fit(plans[number], resume=resume, checkpoint=marked(checkpoint, number))


@contextmanager
def on_threads(threads: int) -> Iterator[None]:
    """Let each operation of torch's use so many CPU threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def marked(checkpoint: Checkpoint | None, number: int) -> Callable[[dict[str, Tensor]], None] | None:
    """Return what keeps a fit's state together with the number of its plan."""
    if checkpoint is None:
        return None
    save, mark = checkpoint.save, {CHOSEN: torch.tensor(number)}
    return lambda state: save(state | mark)


def fitted_in_full(
    site: FitContext, plans: list[Plan], resume: Mapping[str, Tensor] | None, checkpoint: Checkpoint | None
) -> Fitted:
    """Fit every plan to all training rows and keep the winner; an interruption keeps the best of those begun.

    A resumed run fits the plans before the interrupted one again: they take seconds, and give the same bits.
    """
    begun = None if resume is None else int(resume[CHOSEN])
    fits_: list[Fitted] = []
    for number, candidate in enumerate(plans):
        state = resume if number == begun else None
        fits_.append(site.fit(candidate, resume=state, checkpoint=marked(checkpoint, number)))
        say_trial(site, candidate, fits_[-1].result.best.validation_loss, len(fits_), len(plans))
        if site.stop():
            break
    number = choose.winner([validation_losses(fitted) for fitted in fits_])
    say_chosen(site, plans[: len(fits_)], number)
    return fits_[number]


def say_chosen(site: FitContext, plans: list[Plan], number: int) -> None:
    """Tell which of several plans won, and the network that goes with it."""
    if len(plans) < 2:
        return
    chosen = plans[number]
    widths, members = ",".join(map(str, chosen.network.widths)), chosen.network.members
    networks = f"an ensemble of {members} networks" if members > 1 else "one network"
    loss = "whose validation loss is clearly lower" if number else "since no other has a clearly lower validation loss"
    site.progress.say(f"chosen: encoding {chosen.name!r}, {loss}; {networks} of widths {widths}")
