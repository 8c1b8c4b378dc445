"""The served graph against a constant and a linear model on the same held-out rows, and a warning where it loses.

The answers of the baselines are shown in the report too, so they are fitted once.
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from batchproof.service.features.arrays import Outputs
from batchproof.training.data.dataset import Dataset
from batchproof.training.data.rows.split import Split
from batchproof.training.evaluation import baselines, metrics
from batchproof.training.fit.selection.choice import ERRORS

LINEAR, CONSTANT = "a linear model", "a constant"
LINEAR_ROWS = 10_000  # most training rows of the linear model
SEED = 7
TIE = 0.01  # a difference below this share of the loss counts for nothing, however steady it is


def baseline_answers(data: Dataset) -> dict[str, np.ndarray]:
    """Return what each baseline predicts for the evaluation rows: probabilities [rows, classes] or values [rows]."""
    answers = {LINEAR: _linear(data), CONSTANT: baselines.constant(_with_test_rows(data))}
    prior = data.prior
    return answers if prior is None else {name: prior.corrected(answer) for name, answer in answers.items()}


def lost_to(data: Dataset, outputs: Outputs, answers: Mapping[str, np.ndarray]) -> list[str]:
    """Return a warning for each baseline whose loss is below that of `outputs` by more than TIE, for people.

    `answers` are those of `baseline_answers`, for the same rows as `outputs`.
    """
    y, served = data.y(data.evaluation_part), data.target.answers(outputs)
    weight = data.weights(data.evaluation_part)
    lines = []
    for name, answer in answers.items():
        for place, part in enumerate(data.target.parts):
            of = partial(_column, place=place) if data.target.several else np.asarray
            loss = metrics.loss_of(part)
            ours, theirs = (loss.of_rows(of(one), of(y)) for one in (served, answer))
            losses = loss.total(ours, weight), loss.total(theirs, weight)
            if losses[1] < (1 - TIE) * losses[0]:
                is_clear = _is_clear(_counted(data, ours - theirs))
                what = f"{part.name!r} of the " if data.target.several else "the "
                lines.append(_warning(data, name, what, loss.name, losses, is_clear=is_clear))
    return lines


def _column(values: np.ndarray, place: int) -> np.ndarray:
    return values[:, place]


def _warning(data: Dataset, name: str, what: str, loss: str, losses: tuple[float, float], *, is_clear: bool) -> str:
    rows = f"{len(data.y(data.evaluation_part))} {data.evaluation_part} rows"
    known = (
        f"use {name} in its place, unless cross-validation (batchproof-train compare) says otherwise"
        if is_clear
        else "these rows are too few to say which is better; cross-validate both (batchproof-train compare)"
    )
    return f"warning: {name} predicts {what}{rows} better than this network: {loss} {losses[1]:.4g}, not {losses[0]:.4g}; {known}."


def _is_clear(gains: np.ndarray) -> bool:
    """Whether the mean of paired differences [rows] exceeds ERRORS of its standard errors."""
    error = float(gains.std(ddof=1)) / math.sqrt(len(gains)) if len(gains) > 1 else math.inf
    return float(gains.mean()) > ERRORS * error


def _counted(data: Dataset, losses: np.ndarray) -> np.ndarray:
    """Return the losses of the evaluation rows [rows], each as much as it counts: the mean weight is 1."""
    weight = data.weights(data.evaluation_part)
    return losses if weight is None else losses * weight / weight.mean(dtype=np.float64)


def _linear(data: Dataset) -> np.ndarray:
    """Predict the evaluation rows with a linear model that is fitted to a sample of the training rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a baseline may stop before it converges
        return baselines.linear(_sampled(data))


def _sampled(data: Dataset) -> Dataset:
    """Return the data with fewer training rows, of every class, and with the evaluation rows as its test rows."""
    train = data.y("train")
    rows = np.random.default_rng(SEED).permutation(len(train))[:LINEAR_ROWS]
    if data.target.classes is not None:
        rows = np.union1d(rows, np.unique(train, return_index=True)[1])
    evaluated = _with_test_rows(data)
    few = data.arrays["train"].take(rows)
    return replace(
        evaluated,
        split=Split(data.split.train[rows], evaluated.split.validation, evaluated.split.test),
        arrays={**evaluated.arrays, "train": few},
    )


def _with_test_rows(data: Dataset) -> Dataset:
    """Return the data with the evaluation rows as its test rows."""
    return replace(
        data,
        split=data.split._replace(test=getattr(data.split, data.evaluation_part)),
        arrays={**data.arrays, "test": data.arrays[data.evaluation_part]},
    )
