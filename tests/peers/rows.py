"""The rows that the peers' clients send: with every kind of feature, and as a matrix of numbers."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.bundles import INPUTS, NUMBERS, random_rows, signature_of

ROWS = random_rows(signature_of("multiclass", INPUTS), 7, seed=5)
MATRIX = np.random.default_rng(3).uniform(-1, 1, (6, len(NUMBERS)))

Expected = Callable[[str, list[list[Any]]], dict[str, np.ndarray]]  # (model's name, rows) -> the engine's outputs
