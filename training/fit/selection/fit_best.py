"""Fit the best of the candidates for a table: small tables fit all of them, large ones try them on a sample first."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from batchproof.training.data.dataset import Dataset
from batchproof.training.distributed.group import Group
from batchproof.training.distributed.threads import on_threads
from batchproof.training.fit.checkpoint import Checkpoint, decoded
from batchproof.training.fit.context import FitContext, Fitted, Plan
from batchproof.training.fit.progress import Progress
from batchproof.training.fit.selection import choice, defaults
from batchproof.training.fit.selection.trials import best_on_sample, say_trial, validation_losses
from batchproof.training.settings import Settings

CHOSEN = "plan"  # name of the checkpoint's entry with the number of the candidate that is being fitted


def fit_best(
    data: Dataset,
    candidates: Sequence[Plan],
    settings: Settings,
    progress: Progress,
    stop: Callable[[], bool],
    checkpoint: Checkpoint | None = None,
    group: Group | None = None,
) -> Fitted:
    """Choose among the candidates and fit the best to the training rows; `stop` is asked after each epoch.

    All processes of a group get the same result; only the first is given the checkpoint.
    """
    context, rows = FitContext.of(data, progress, stop, settings.metric, group), len(data.split.train)
    resume = saved_state(checkpoint, group) if settings.resume else None
    allowed = settings.threads or torch.get_num_threads()
    threads = settings.threads or min(allowed, defaults.most_threads(rows))
    if len(candidates) > 1 and rows <= defaults.FULL_ROWS:
        with on_threads(threads):
            return best_of_all(context, candidates, resume, checkpoint)
    with on_threads(defaults.most_threads(defaults.SAMPLE_ROWS)):
        workers = allowed if candidates[0].fit.device == "cpu" else 1
        number = best_on_sample(context, candidates, workers) if resume is None else int(resume[CHOSEN])
    say_chosen(context, candidates, number)
    with on_threads(threads):
        return context.fit(candidates[number], resume=resume, checkpoint=saving(checkpoint, number))


def saved_state(checkpoint: Checkpoint | None, group: Group | None) -> dict[str, Tensor] | None:
    """Return the state to resume from; the first process of a group reads it for all."""
    if group is None:
        return None if checkpoint is None else checkpoint.load()
    return decoded(group.hand_out(None if checkpoint is None else checkpoint.read()))


def saving(checkpoint: Checkpoint | None, number: int) -> Callable[[dict[str, Tensor]], None] | None:
    """Return a hook that saves a fit's state together with the number of its candidate."""
    if checkpoint is None:
        return None
    save, chosen = checkpoint.save, {CHOSEN: torch.tensor(number)}
    return lambda state: save(state | chosen)


def best_of_all(
    context: FitContext,
    candidates: Sequence[Plan],
    resume: Mapping[str, Tensor] | None,
    checkpoint: Checkpoint | None,
) -> Fitted:
    """Fit every candidate to all training rows and return the best; after an interruption, the best of those begun.

    A resumed run fits the candidates before the interrupted one again: they take seconds, and give the same bits.
    """
    interrupted = None if resume is None else int(resume[CHOSEN])
    fits: list[Fitted] = []
    for number, candidate in enumerate(candidates):
        state = resume if number == interrupted else None
        fits.append(context.fit(candidate, resume=state, checkpoint=saving(checkpoint, number)))
        say_trial(context, candidate, fits[-1].result.best.validation_loss, len(fits), len(candidates))
        if context.stopped():
            break
    best = choice.winner([validation_losses(fitted) for fitted in fits])
    say_chosen(context, candidates[: len(fits)], best)
    return fits[best]


def say_chosen(context: FitContext, candidates: Sequence[Plan], number: int) -> None:
    """Say which of several candidates was chosen, why, and with which network."""
    if len(candidates) < 2:
        return
    chosen = candidates[number]
    widths, members = ",".join(map(str, chosen.network.widths)), chosen.network.members
    networks = f"an ensemble of {members} networks" if members > 1 else "one network"
    reason = "its validation loss is clearly lower" if number else "no other has a clearly lower validation loss"
    context.progress.say(f"chosen: encoding {chosen.name!r} ({reason}), {networks} of widths {widths}")
