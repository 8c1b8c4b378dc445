"""Try the candidates for a large table: short fits on a sample, side by side on as many threads as the fit may use."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from batchproof.training.distributed.group import Group
from batchproof.training.fit import loop
from batchproof.training.fit.context import FitContext, Fitted, Plan
from batchproof.training.fit.metric import judged
from batchproof.training.fit.selection import candidates as plans
from batchproof.training.fit.selection import choice, defaults


class Trial(NamedTuple):
    """The result of a short fit."""

    losses: Tensor  # of each validation row [rows]
    loss: float  # that of its best epoch


def best_on_sample(context: FitContext, candidates: Sequence[Plan], workers: int) -> int:
    """Return the number of the candidate that wins short fits on a sample; 0 where there is one, or no time.

    Up to `workers` fits run at a time. No fit draws from a generator that another one sees, so that their number
    changes no bit. An exception, a second Ctrl-C too, ends the fits that run after their epoch.
    """
    if len(candidates) < 2:
        return 0
    if context.group is not None and context.group.size > 1:
        return choice.winner(dealt(context, context.group, candidates))
    rows, ended = min(defaults.SAMPLE_ROWS, len(context.data.split.train)), threading.Event()
    trials = replace(context, stop=lambda: ended.is_set() or context.stop())
    with ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(run_trial, trials, candidate, rows) for candidate in candidates]
        try:
            return choice.winner(collected(context, candidates, running))
        finally:
            ended.set()
            pool.shutdown(cancel_futures=True)


def dealt(context: FitContext, group: Group, candidates: Sequence[Plan]) -> list[Tensor]:
    """Return the losses of the candidates in order, each tried by one of the processes, alone: who does it changes no bit."""
    rows = min(defaults.SAMPLE_ROWS, len(context.data.split.train))
    own = [run_trial(context, candidates[number], rows) for number in group.deal(len(candidates))]
    parts = [torch.cat([trial.losses.double().cpu(), torch.tensor([trial.loss], dtype=torch.float64)]) for trial in own]
    held = min(rows, len(context.data.split.validation))
    found = group.collect(parts, torch.zeros(held + 1, dtype=torch.float64), len(candidates))
    for number, (candidate, part) in enumerate(zip(candidates, found, strict=True), 1):
        say_trial(context, candidate, float(part[-1]), number, len(candidates))
    return [part[:-1] for part in found]


def run_trial(context: FitContext, candidate: Plan, rows: int) -> Trial:
    """Fit a candidate briefly, and release its rows."""
    fitted = context.fit(plans.shortened(candidate, rows), sampled=rows)
    return Trial(validation_losses(fitted), fitted.result.best.validation_loss)


def collected(context: FitContext, candidates: Sequence[Plan], running: list[Future[Trial]]) -> list[Tensor]:
    """Return the losses of the candidates in order, saying each; up to the first that ended after a stop was asked."""
    losses: list[Tensor] = []
    for candidate, future in zip(candidates, running, strict=True):
        trial = future.result()
        losses.append(trial.losses)
        say_trial(context, candidate, trial.loss, len(losses), len(candidates))
        if context.stop():
            break
    return losses


def validation_losses(fitted: Fitted) -> Tensor:
    """Return the loss of each validation row [rows], or its share of the metric that takes the loss's place."""
    rows = fitted.rows["validation"]
    return judged(fitted.objective, loop.scores_of(fitted.result.network, rows), rows)


def say_trial(context: FitContext, candidate: Plan, loss: float, number: int, total: int) -> None:
    """Say how one candidate did."""
    context.progress.tried(candidate.name, loss, number, total)
