"""Defaults that follow from the number of rows: members, width, batch, epochs, and which encodings compete.

A fit is planned in steps. Half of the steps at twice the learning rate end at the same loss, and so do half as many
steps of twice the rows; wide networks take more rows a step, which costs less a row. From 1 001 to 5 000 rows the
best epoch comes early, long before the rate falls, so it is low there from the start.
"""

import math
from typing import NamedTuple

from batchproof.training.fit.loop import FitSettings
from batchproof.training.network.network import NetworkSettings

MANY_CLASSES = 8  # from which on one network has much to tell apart: wide ones are better than many, where rows suffice
INPUT_RATE = 6.0  # of RealMLP: see input_rate
FULL_ROWS = 1_000  # training rows up to which every candidate is fitted in full; more: short fits on a sample
SAMPLE_ROWS = 20_000  # of such a sample
TRIAL_STEPS = 400  # of a short fit that only helps to choose
TRIAL_BATCH_ROWS = 128
TRIAL_WIDTH = 128  # its widest layer
TRIAL_RATE = 4e-3  # the least peak of its learning rate: few steps have to move far
TRIAL_DECAY = 0.98  # of its moving average: a short fit has no time to forget its start
SHARED_ROWS = 100_000  # training rows above which a batch is large enough for several threads
EPOCHS = (12, 150)  # least and most
SEEN_ROWS = 2_400_000  # rows seen over all epochs, beyond which the least number of epochs shrinks, to 5
PATIENCE = (5, 12)  # epochs without a better validation loss before stopping, least and most


class Budget(NamedTuple):
    """How tables of some size are fitted."""

    rows: float  # the most training rows that it is for
    members: int  # many narrow ones where rows are few, since there variance is the error
    width: int  # of both hidden layers
    batch_rows: int
    steps: int  # that the fit is planned for
    rate: float  # peak of the learning rate
    decay: float  # of the moving average, a step


BUDGETS = (
    Budget(1_000, 8, 64, 64, 300, 5e-3, 0.98),
    Budget(5_000, 8, 64, 128, 750, 2e-3, 0.99),
    Budget(10_000, 2, 256, 128, 1_200, 4e-3, 0.99),
    Budget(20_000, 2, 256, 256, 1_200, 4e-3, 0.99),
    Budget(100_000, 2, 256, 512, 900, 6e-3, 0.99),
    Budget(math.inf, 2, 256, 1_024, 900, 6e-3, 0.99),
)
WIDE = BUDGETS[2]


def budget_of(rows: int) -> Budget:
    """Return how a table of `rows` training rows is fitted."""
    return next(budget for budget in BUDGETS if rows <= budget.rows)


def has_many_classes(rows: int, classes: int) -> bool:
    """Return whether a table is fitted by wide networks because of its classes."""
    return classes >= MANY_CLASSES and rows > FULL_ROWS


def network_settings(rows: int, classes: int = 0) -> NetworkSettings:
    """Return the network for `rows` training rows of so many classes, 0 where the target is a number."""
    budget, rate = WIDE if has_many_classes(rows, classes) else budget_of(rows), input_rate(rows, classes)
    return NetworkSettings(widths=(budget.width, budget.width), members=budget.members, input_rate=rate)


def input_rate(rows: int, classes: int) -> float:
    """Return how many times as fast as weights factors of inputs learn; 0, none, for few rows and for many classes."""
    return 0.0 if rows <= FULL_ROWS or has_many_classes(rows, classes) else INPUT_RATE


def fit_settings(rows: int, classes: int = 0) -> FitSettings:
    """Return batch rows, epochs, rate and patience for `rows` training rows of so many classes, 0 where the target is a number."""
    budget = budget_of(rows)
    least = max(5, min(EPOCHS[0], SEEN_ROWS // rows))
    epochs = min(EPOCHS[1], max(least, epochs_of(budget.steps, rows, budget.batch_rows)))
    return FitSettings(
        epochs=epochs,
        batch_rows=budget.batch_rows,
        learning_rate=max(budget.rate, WIDE.rate) if has_many_classes(rows, classes) else budget.rate,
        weight_decay=0.1,
        average_decay=budget.decay,
        patience=patience(epochs),
    )


def epochs_of(steps: int, rows: int, batch_rows: int) -> int:
    """Return the fewest epochs that have so many steps."""
    return math.ceil(steps / max(1, rows // batch_rows))


def patience(epochs: int) -> int:
    """Return how many epochs without a better validation loss end a fit that is planned for `epochs`: a third of them."""
    return min(PATIENCE[1], max(PATIENCE[0], math.ceil(epochs / 3)))


def most_threads(rows: int) -> int:
    """Return a useful number of CPU threads: a batch of 256 rows is too small to divide.

    If other programs use the cores, threads that wait for each other by spinning at every operation cost far
    more than they gain: a fit of one minute on one thread took over ten minutes on two.
    """
    return 1 if rows <= SHARED_ROWS else 64


def encodings(rows: int) -> tuple[str, ...]:
    """Return the names of the encodings that compete, the preferred first: few rows cannot pay for bins without evidence."""
    return ("plain", "bins") if rows < 1_000 else ("bins", "tree", "plain")
