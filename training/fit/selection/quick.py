"""What `--quick` fits, by the number of rows: one encoding, narrow networks, and few steps at a higher rate.

The budget is a number of steps, never of seconds: a limit in time would give other bits on every machine.
"""

import math
from typing import NamedTuple

from batchproof.training.fit.loop import FitSettings
from batchproof.training.fit.selection import defaults
from batchproof.training.network.network import NetworkSettings

PLAIN_ROWS = 1_000  # training rows from which on bins have enough rows each
SEVERAL_ROWS = 5_000  # training rows up to which several networks fit into the budget
EPOCHS = (2, 60)  # least and most
WIDE_STEPS = 600  # of the wide networks that many classes get
RATE = 5e-3  # a short schedule has to move fast
DECAY = 0.98  # of the moving average: half the steps of the default


class Budget(NamedTuple):
    """What a fit may spend."""

    rows: float  # the most training rows that it is for
    batch_rows: int
    steps: int


BUDGETS = (
    Budget(1_000, 64, 200),
    Budget(5_000, 128, 300),
    Budget(10_000, 128, 600),
    Budget(100_000, 256, 700),
    Budget(math.inf, 1_024, 500),
)


def network_settings(rows: int, classes: int = 0) -> NetworkSettings:
    """Return the network for `rows` training rows of so many classes: one is not trained for long enough to need dropout."""
    if defaults.has_many_classes(rows, classes):
        return NetworkSettings(widths=(defaults.WIDE.width,) * 2, members=defaults.WIDE.members, dropout=0.0)
    rate = defaults.input_rate(rows, classes)
    if rows <= SEVERAL_ROWS:
        return NetworkSettings(widths=(64, 64), members=8, input_rate=rate)
    return NetworkSettings(widths=(128, 128), dropout=0.0, input_rate=rate)


def fit_settings(rows: int, classes: int = 0) -> FitSettings:
    """Return batch rows, epochs, rate and averaging for `rows` training rows of so many classes."""
    _, batch_rows, steps = next(budget for budget in BUDGETS if rows <= budget.rows)
    if defaults.has_many_classes(rows, classes):
        steps = WIDE_STEPS
    epochs = min(EPOCHS[1], max(EPOCHS[0], math.ceil(steps / max(1, rows // batch_rows))))
    return FitSettings(
        epochs=epochs,
        batch_rows=batch_rows,
        learning_rate=RATE,
        weight_decay=0.1,
        average_decay=DECAY,
        patience=defaults.patience(epochs),
    )


def encodings(rows: int) -> tuple[str, ...]:
    """Return the name of the one encoding."""
    return ("plain",) if rows < PLAIN_ROWS else ("bins",)
