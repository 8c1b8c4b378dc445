"""Cross-validation of the network and the baselines on the same folds, and the advice that follows."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from statistics import mean, stdev

import numpy as np

from batchproof.training.data import schema
from batchproof.training.data.dataset import Dataset
from batchproof.training.data.rows import group_split, time_split
from batchproof.training.data.rows.split import Split
from batchproof.training.data.tables.table_error import TableError
from batchproof.training.data.text.text_options import resolve
from batchproof.training.evaluation import boosters, metrics
from batchproof.training.evaluation.baselines import BASELINES
from batchproof.training.evaluation.comparison import TIE
from batchproof.training.export.compile import fold
from batchproof.training.fit.progress import Silent
from batchproof.training.fit.selection.candidates import candidates_of
from batchproof.training.fit.selection.choice import ERRORS
from batchproof.training.fit.selection.fit_best import fit_best
from batchproof.training.network.batchnorm import recompute
from batchproof.training.network.fold import predictions
from batchproof.training.settings import Settings

NETWORK = "the network"
SIMPLEST_FIRST = (*BASELINES, "LightGBM", "CatBoost", NETWORK)
FEW_FOLDS = 5  # with fewer, a standard error is itself a guess
FAR = 0.25  # a loss this share above the best one is worse, whatever its standard error


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
    methods = {NETWORK: lambda part: network(part, settings), **BASELINES, **boosters.installed(data)}
    losses: dict[str, list[float]] = {name: [] for name in methods}
    seconds = dict.fromkeys(methods, 0.0)
    for number, part in enumerate(split_into_folds(data, settings, folds), 1):
        for name, method in methods.items():
            start_s = time.monotonic()
            losses[name].append(loss_of(part, method(part)))
            seconds[name] += time.monotonic() - start_s
        say(
            f"fold {number} of {folds}: " + ", ".join(f"{name} {of_folds[-1]:.4g}" for name, of_folds in losses.items())
        )
    scores = [Score(name, tuple(of_folds), seconds[name]) for name, of_folds in losses.items()]
    return sorted(scores, key=lambda score: score.loss)


def split_into_folds(data: Dataset, settings: Settings, folds: int) -> Iterator[Dataset]:
    """Yield a new split of the table for each fold: one fold tests, a quarter of the other rows validates, the rest trains.

    Rows are distributed over the folds within each class, or whole groups; in order of time, each fold tests on rows after
    those that it trains and validates on. Ranges and categories come from the training rows of each fold.
    """
    keep = resolve(settings, data.table.names).keep
    for split in fold_splits(data, settings.seed, folds):
        described = schema.infer(data.columns, data.target, split.train, rare_rows=settings.rare_rows, keep=keep)
        arrays = {
            part: schema.encode(described.signature, data.columns, getattr(split, part)) for part in Split._fields
        }
        yield replace(data, schema=described, split=split, arrays=arrays)


def fold_splits(data: Dataset, seed: int, folds: int) -> Iterator[Split]:
    """Yield the split of each fold. Raises TableError where there are too few groups or times."""
    if data.keys is None:
        return _by_class(data.target.strata, seed, folds)
    if data.keys.kind == "group":
        return _by_group(data.keys.values, data.target.strata, seed, folds)
    return _by_time(data.keys.values, data.keys.column, folds)


def _by_group(groups: np.ndarray, strata: np.ndarray, seed: int, folds: int) -> Iterator[Split]:
    """Yield folds of whole groups; of the others a quarter validates."""
    tested = group_split.assign(groups, strata, [1.0 / folds] * folds, seed)
    for number in range(folds):
        others = np.flatnonzero(tested != number)
        validates = group_split.assign(groups[others], strata[others], [0.75, 0.25], seed) == 1
        yield Split(others[~validates], others[validates], np.flatnonzero(tested == number))


def _by_time(times: np.ndarray, name: str, folds: int) -> Iterator[Split]:
    """Yield folds that train on ever more of the past, validate on the block after it and test on the next."""
    count = folds + 2
    parts = time_split.blocks(times, [number / count for number in range(1, count)], name)
    for number in range(2, count):
        yield Split(np.sort(np.concatenate(parts[: number - 1])), parts[number - 1], parts[number])


def _by_class(strata: np.ndarray, seed: int, folds: int) -> Iterator[Split]:
    """Yield folds of rows, every stratum [rows] dealt to all of them."""
    order = np.random.default_rng(seed).permutation(len(strata))
    order = order[np.argsort(strata[order], kind="stable")]
    for number in range(folds):
        others = np.delete(order, np.s_[number::folds])
        yield Split(*map(np.sort, (np.delete(others, np.s_[::4]), others[::4], order[number::folds])))


def check_classes(data: Dataset, seed: int, folds: int) -> None:
    """Raise TableError for a class that a fold's training rows lack: nothing could learn it there."""
    target = data.target
    for split in fold_splits(data, seed, folds):
        if target.classes is None:
            continue
        for code in np.setdiff1d(target.y, target.y[split.train]).tolist():
            rows = int((target.y == code).sum())
            raise TableError(
                f"class {target.classes[code]!r} has {rows} of {len(target.y)} rows, and a fold trains without any of them: "
                "add rows of that class, or remove these."
            )


def network(data: Dataset, settings: Settings) -> np.ndarray:
    """Fit, freeze and fold as training does; returns the answers for the test rows."""
    candidates = candidates_of(data, settings)
    fitted = fit_best(data, candidates, settings, Silent(), lambda: False)
    folded = fold(fitted, recompute(fitted.result.network, fitted.rows["train"])).folded
    arrays = data.arrays["test"]
    scores = folded.scores(fitted.preprocess.transform(arrays), arrays.categorical)
    answers = predictions(scores, folded.output)
    return answers[:, 0] if data.target.classes is None and not data.target.several else answers


def loss_of(data: Dataset, answers: np.ndarray) -> float:
    """Return the loss of answers for the test rows, as far as each counts."""
    loss = metrics.loss_of(data.target)
    return loss.total(loss.of_rows(answers, data.y("test")), data.weights("test"))


def verdict(scores: list[Score]) -> str:
    """Return the advice in one or two sentences: the simplest method that is not clearly worse than the best.

    `scores` are in the order of their loss. A method with a loss far above the best is never recommended as its equal,
    even if there are too few folds to distinguish the two; the advice then says so.
    """
    best, folds = scores[0], len(scores[0].losses)
    by_name = {score.method: score for score in scores}
    equal = [by_name[name] for name in SIMPLEST_FIRST if name in by_name and not is_clear(best, by_name[name])]
    near = [score for score in equal if score.loss <= (1 + FAR) * best.loss]
    chosen = near[0]
    if chosen is best:
        second = scores[1]
        advice = f"Use {best.method}: its loss is {difference(best, second)} that of {second.method}, the second best"
    else:
        advice = f"Use {chosen.method}: it is the simplest that is not clearly worse than {best.method}, the best"
        advice += f" (its loss is {difference(chosen, best)})"
    far = [score.method for score in equal if score not in near]
    unsure = (
        f" {folds} folds cannot show that {' or '.join(far)} is worse, although its loss is far higher." if far else ""
    )
    few = f" {folds} folds are few: use --folds 10 before you rely on this." if folds < FEW_FOLDS else ""
    return f"{advice}.{unsure}{few}"


def difference(score: Score, other: Score) -> str:
    """Return the mean difference of two losses, paired by fold, with its standard error: `0.021 ± 0.008 below`."""
    gains = [b - a for a, b in zip(score.losses, other.losses, strict=True)]
    error = stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else math.inf
    return f"{abs(mean(gains)):.2g} ± {error:.2g} {'below' if mean(gains) >= 0 else 'above'}"


def is_clear(better: Score, worse: Score) -> bool:
    """Whether `better` is better by more than two standard errors of the difference, paired by fold, and by 1 %."""
    gains = [b - a for a, b in zip(better.losses, worse.losses, strict=True)]
    error = stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else math.inf
    return mean(gains) > max(ERRORS * error, TIE * worse.loss)
