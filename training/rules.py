"""Defaults that follow from the table: rows, features and task decide width, members, batch and epochs."""

import math
from dataclasses import replace

from training.fit import FitSettings
from training.network import NetworkSettings

STEPS = 4_000  # optimiser steps that a fit is planned for
EPOCHS = (16, 150)  # least and most
BATCH_ROWS = ((1_000, 32), (10_000, 128), (100_000, 256), (math.inf, 1_024))  # up to that many rows: batch rows


def network_settings(rows: int, settings: NetworkSettings | None = None) -> NetworkSettings:
    """Network for `rows` training rows; given settings are kept but for members, which the rule sets."""
    settings = settings or NetworkSettings()
    return replace(settings, members=4 if rows < 10_000 else 1)


def fit_settings(rows: int, settings: FitSettings | None = None) -> FitSettings:
    """Batch rows and epochs for `rows` training rows; other given settings are kept."""
    settings = settings or FitSettings()
    batch_rows = next(batch for most, batch in BATCH_ROWS if rows <= most)
    epochs = math.ceil(STEPS / max(1, rows // batch_rows))
    return replace(settings, batch_rows=batch_rows, epochs=min(EPOCHS[1], max(EPOCHS[0], epochs)))


def dimensions(codes: int) -> int:
    """Width of the embedding of a column with `codes` codes: grows with the fourth root, 4 to 24."""
    return min(24, max(4, round(3 * codes**0.25)))
