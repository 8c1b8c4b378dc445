"""Whether a server's own batching changes rows: many callers send single rows at once, and each answer is compared."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from batchproof.service.features.arrays import Outputs
from batchproof.service.inference.runner import Feeds, Runner, rows_of
from batchproof.service.invariance.bitwise import Difference, compare_row, take

ROUNDS = 8  # in which every row is sent once


@dataclass(frozen=True)
class Concurrent:
    """What came of rows that were sent alone, at the same time as others."""

    callers: int
    compared: int
    changed: int
    first: Difference | None

    @property
    def sentence(self) -> str:
        """Return one line for a person."""
        sent = f"single rows from {self.callers} callers at once: {self.compared} rows compared"
        return f"{sent}, {self.changed} changed" if self.changed else f"{sent}, no bit changed"

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def check(runner: Runner, draw: Callable[[int], Feeds], callers: int) -> Concurrent:
    """Send each row alone, first one after the other and then `callers` at a time; raises EngineError."""
    probes = draw(0)
    rows = rows_of(probes)
    lone = [_alone(runner, probes, row) for row in range(rows)]
    random = np.random.default_rng(0)
    order = [int(row) for _ in range(ROUNDS) for row in random.permutation(rows)]
    with ThreadPoolExecutor(callers) as executor:
        answers = executor.map(partial(_alone, runner, probes), order)
        differences = [compare_row(answer, lone[row], 1, 0) for row, answer in zip(order, answers, strict=True)]
    changed = [difference for difference in differences if difference is not None]
    return Concurrent(callers, len(order), len(changed), changed[0] if changed else None)


def _alone(runner: Runner, probes: Feeds, row: int) -> Outputs:
    return runner.run([take(probes, np.array([row]))])[0]
