"""Which batches a model is checked with: their sizes, the probe rows in them, the requests that they are joined from."""

from collections.abc import Iterator, Sequence
from itertools import count
from math import gcd

import numpy as np

LARGEST_FILL = 33  # rows: filled batches cycle through the sizes up to this one
CUTS = (1, 2, 3, 5, 8, 13, 21, 34, 55)  # rows of the requests that a batch is joined from
GOLDEN_SECTION = 0.618  # of the probe rows: the step from a batch's row to its next


def sizes_for(run_rows: int) -> tuple[int, ...]:
    """Return the batch sizes to compare: small ones, both sides of powers of two, the largest run, one row more.

    Sizes above `run_rows`, the largest run or the fixed row count of each, are requests that the runner cuts.
    """
    around = (size + step for size in (32, 64, 128, 256) for step in (-1, 0, 1))
    return tuple(sorted({*range(1, 18), *around, run_rows, run_rows + 1}))


def spread(size: int, rows: int, turn: int) -> np.ndarray:
    """Return a batch of `size` of the `rows` probe rows, from all over them: even a small one has rows of every kind.

    No row comes again before each has come once. `turn` moves which rows a small batch has, and all their positions.
    """
    stride = next(step for step in count(max(1, round(GOLDEN_SECTION * rows))) if gcd(step, rows) == 1)
    return (np.arange(size) + turn) * stride % rows


def filled(sizes: Sequence[int], rows: Sequence[int]) -> Iterator[np.ndarray]:
    """Yield, for each of the probe `rows`, a batch filled with copies of it; the batches cycle through `sizes` up to LARGEST_FILL."""
    usable = [size for size in sizes if 1 < size <= LARGEST_FILL]
    for number, row in enumerate(rows):
        yield np.full(usable[number % len(usable)], row)


def cut(chosen: np.ndarray) -> list[np.ndarray]:
    """Split a batch into requests of uneven sizes, as callers do; a batch of an even size stays one request."""
    if len(chosen) % 2 == 0:
        return [chosen]
    pieces, start = [], 0
    for size in (*CUTS, len(chosen)):
        pieces.append(chosen[start : start + size])
        start += size
        if start >= len(chosen):
            break
    return pieces
