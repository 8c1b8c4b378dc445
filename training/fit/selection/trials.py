"""Which plan a large table gets: short fits on a sample, side by side on as many threads as the fit may use."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from batchproof.training.fit import loop as fits
from batchproof.training.fit.context import FitContext, Fitted
from batchproof.training.fit.plan import Plan
from batchproof.training.fit.selection import candidates as plan
from batchproof.training.fit.selection import choice as choose
from batchproof.training.fit.selection import defaults as rules


class Trial(NamedTuple):
    """What a short fit came to."""

    losses: Tensor  # of each validation row [rows]
    loss: float  # that of its best epoch


def chosen_on_sample(site: FitContext, plans: list[Plan], workers: int) -> int:
    """Return which plan wins short fits on a sample; the first where there is nothing to choose or no time.

    Up to `workers` fits run at a time. No fit draws from a generator that another one sees, so that their number
    changes no bit. An exception, a second Ctrl-C too, ends the fits that run after their epoch.
    """
    if len(plans) < 2:
        return 0
    rows, ended = min(rules.SAMPLE_ROWS, len(site.data.split.train)), threading.Event()
    trials = replace(site, stop=lambda: ended.is_set() or site.stop())
    with ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(tried, trials, candidate, rows) for candidate in plans]
        try:
            return choose.winner(collected(site, plans, running))
        finally:
            ended.set()
            pool.shutdown(cancel_futures=True)


def tried(site: FitContext, candidate: Plan, rows: int) -> Trial:
    """Fit a plan shortly, and let go of its rows."""
    fitted = site.fit(plan.shortened(candidate, rows), sampled=rows)
    return Trial(validation_losses(fitted), fitted.result.best.validation_loss)


def collected(site: FitContext, plans: list[Plan], running: list[Future[Trial]]) -> list[Tensor]:
    """Return the losses of the plans in order, telling each; up to the first one that ended when a stop was asked."""
    losses: list[Tensor] = []
    for candidate, trial in zip(plans, running, strict=True):
        found = trial.result()
        losses.append(found.losses)
        say_trial(site, candidate, found.loss, len(losses), len(plans))
        if site.stop():
            break
    return losses


def validation_losses(fitted: Fitted) -> Tensor:
    """Return the loss of each validation row [rows]."""
    rows = fitted.rows["validation"]
    return rows.weighed(fitted.target.held_losses(fits.scores_of(fitted.result.network, rows), rows.y))


def say_trial(site: FitContext, candidate: Plan, loss: float, number: int, of: int) -> None:
    """Tell how one plan did."""
    site.progress.say(f"plan {number} of {of}, {candidate.name!r}: validation loss {loss:.4f}")
