"""Cross-validation of the network and its rivals on the same folds, and what follows from it."""

import io
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from statistics import mean, stdev

import numpy as np
import torch

from batchproof.training.data import schema
from batchproof.training.data.dataset import Dataset
from batchproof.training.data.split import Split
from batchproof.training.evaluation import metrics
from batchproof.training.evaluation.baselines import RIVALS
from batchproof.training.export import temperature
from batchproof.training.fit.progress import Progress
from batchproof.training.fit.selection.fit_table import fit_table
from batchproof.training.network import batchnorm
from batchproof.training.network import fold_torch as freeze
from batchproof.training.network.fold import Output, predictions
from batchproof.training.preprocessing.preprocess import Raw
from batchproof.training.settings import Settings

NETWORK = "the network"
SIMPLEST_FIRST = (*RIVALS, NETWORK)
FEW_FOLDS = 5  # below so many a standard error is itself a guess
FAR = 0.25  # a loss that is this share above the best's is no tie, whatever its error
TIE = 0.01  # a difference below this share of the loss decides nothing, however steady it is


@dataclass(frozen=True)
class Score:
    """One method over all folds."""

    method: str
    losses: tuple[float, ...]  # log loss in nats or RMSE in the target's unit, one a fold
    seconds: float  # of all folds together

    @property
    def loss(self) -> float:
        """Mean over the folds."""
        return mean(self.losses)


def compare(data: Dataset, settings: Settings, folds: int, say: Callable[[str], None]) -> list[Score]:
    """Fit every method once a fold and return their scores, least loss first."""
    methods = {NETWORK: lambda fold: network(fold, settings), **RIVALS}
    found: dict[str, list[float]] = {name: [] for name in methods}
    seconds = dict.fromkeys(methods, 0.0)
    for number, fold in enumerate(folded(data, settings, folds), 1):
        for name, method in methods.items():
            start_s = time.monotonic()
            found[name].append(loss_of(fold, method(fold)))
            seconds[name] += time.monotonic() - start_s
        say(f"fold {number} of {folds}: " + ", ".join(f"{name} {losses[-1]:.4g}" for name, losses in found.items()))
    scores = [Score(name, tuple(losses), seconds[name]) for name, losses in found.items()]
    return sorted(scores, key=lambda score: score.loss)


def folded(data: Dataset, settings: Settings, folds: int) -> Iterator[Dataset]:
    """Yield the table split anew for each fold: one fold tests, a quarter of the others validates, the rest trains.

    Rows are dealt to folds within each class. Ranges and categories are taken from each fold's own training rows.
    """
    order = np.random.default_rng(settings.seed).permutation(len(data.goal.y))
    order = order[np.argsort(data.goal.strata[order], kind="stable")]
    for fold in range(folds):
        others = np.delete(order, np.s_[fold::folds])
        split = Split(*map(np.sort, (np.delete(others, np.s_[::4]), others[::4], order[fold::folds])))
        found = schema.infer(data.columns, data.goal, split.train, rare_rows=settings.rare_rows, keep=settings.keep)
        arrays = {part: schema.encode(found.signature, data.columns, getattr(split, part)) for part in Split._fields}
        yield replace(data, schema=found, split=split, arrays=arrays)


def network(data: Dataset, settings: Settings) -> np.ndarray:
    """Fit, freeze and fold as training does; returns the answers for the test rows."""
    fitted = fit_table(data, settings, Progress(io.StringIO(), quiet=True), lambda: False)
    frozen = batchnorm.recompute(fitted.result.network, fitted.rows["train"])
    held = fitted.rows["validation"]
    divisor = temperature.fit(torch.from_numpy(freeze.unfolded_scores(frozen, held)), held.y, fitted.target)
    output = Output(data.goal.task, fitted.target.mean, fitted.target.std)
    folded_network = freeze.fold_network(frozen, fitted.preprocess.embedded.tolist(), output, divisor)
    arrays = data.arrays["test"]
    found = predictions(folded_network.scores(fitted.preprocess.transform(Raw(*arrays)), arrays.categorical), output)
    return found[:, 0] if data.goal.classes is None else found


def loss_of(data: Dataset, answers: np.ndarray) -> float:
    """Return log loss or RMSE of answers for the test rows."""
    y = data.y("test")
    if data.goal.classes is None:
        return math.sqrt(float(np.square(answers - y).mean()))
    return metrics.log_loss(answers, y)


def verdict(scores: list[Score]) -> str:
    """Return what to use, in a sentence or two: the simplest method that is not clearly worse than the best.

    `scores` stand least loss first. A method whose loss is far above the best's is never passed off as its equal,
    although few folds may not tell the two apart: then the sentence says so.
    """
    best, folds = scores[0], len(scores[0].losses)
    by_name = {score.method: score for score in scores}
    equal = [by_name[name] for name in SIMPLEST_FIRST if name in by_name and not is_clear(best, by_name[name])]
    near = [score for score in equal if score.loss <= (1 + FAR) * best.loss]
    chosen = near[0]
    if chosen is best:
        rival = scores[1]
        said = f"Use {best.method}: its loss is {difference(best, rival)} that of {rival.method}, the next best"
    else:
        said = f"Use {chosen.method}: it is the simplest that is not clearly worse than {best.method}, the best"
        said += f" (its loss is {difference(chosen, best)})"
    far = [score.method for score in equal if score not in near]
    doubt = f" {folds} folds do not tell {' or '.join(far)} from the best for sure, though far behind." if far else ""
    few = f" {folds} folds are few: give --folds 10 before you rely on it." if folds < FEW_FOLDS else ""
    return f"{said}.{doubt}{few}"


def difference(one: Score, other: Score) -> str:
    """Return the mean difference of two losses, paired by fold, with its standard error: `0.021 ± 0.008 below`."""
    gains = [b - a for a, b in zip(one.losses, other.losses, strict=True)]
    error = stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else math.inf
    return f"{abs(mean(gains)):.2g} ± {error:.2g} {'below' if mean(gains) >= 0 else 'above'}"


def is_clear(better: Score, worse: Score) -> bool:
    """Whether `better` is better by more than two standard errors of the difference, paired by fold, and by 1 %."""
    gains = [b - a for a, b in zip(better.losses, worse.losses, strict=True)]
    error = stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else math.inf
    return mean(gains) > max(2 * error, TIE * worse.loss)
