"""Defaults that follow from the number of rows: members, width, batch, epochs, and which encodings compete."""

import math
from dataclasses import replace

from batchproof.training.fit.loop import FitSettings
from batchproof.training.network.network import NetworkSettings

FULL_ROWS = 5_000  # training rows up to which every candidate is fitted in full; more: short fits on a sample
SAMPLE_ROWS = 20_000  # of such a sample
NARROW_ROWS = 20_000  # training rows up to which a network has many narrow members
STEPS = 2_400  # optimiser steps that a fit is planned for
TRIAL_STEPS = 1_200  # those of a short fit that only helps to choose
SHARED_ROWS = 100_000  # training rows above which a batch is large enough for several threads
EPOCHS = (20, 150)  # least and most
SEEN_ROWS = 4_000_000  # rows seen over all epochs, beyond which the least number of epochs shrinks, to 5
PATIENCE = (5, 12)  # epochs without a better validation loss before stopping, least and most
BATCH_ROWS = ((1_000, 32), (10_000, 128), (100_000, 256), (math.inf, 1_024))  # up to that many rows: batch rows


def network_settings(rows: int) -> NetworkSettings:
    """Return the network for `rows` training rows: many narrow members where rows are few, since there variance is the error."""
    if rows <= NARROW_ROWS:
        return NetworkSettings(widths=(128, 128), members=8)
    return NetworkSettings(widths=(256, 256), members=2)


def fit_settings(rows: int, settings: FitSettings | None = None, steps: int = STEPS) -> FitSettings:
    """Return batch rows, epochs and patience for `rows` training rows; settings that were set stay unchanged."""
    settings = settings or FitSettings(weight_decay=0.1)
    batch_rows: int = next(batch for most, batch in BATCH_ROWS if rows <= most)
    epochs = math.ceil(steps / max(1, rows // batch_rows))
    least = max(5, min(EPOCHS[0], SEEN_ROWS // rows))
    epochs = min(EPOCHS[1], max(least, epochs))
    return replace(settings, batch_rows=batch_rows, epochs=epochs, patience=patience(epochs))


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
