"""The rows that a model is verified with: golden rows, random rows in the training ranges, and the edges of both."""

from collections.abc import Callable, Iterator
from random import Random

import numpy as np

from batchproof.service.bundle.reader import Bundle
from batchproof.service.bundle.signature import Feature, Signature
from batchproof.service.features.arrays import Arrays, split
from batchproof.service.features.row_encoder import Encoder

GOLDEN_ROWS = 32  # how many of the golden rows take part: the engine's golden check has run them all
RANDOM_ROWS = 32  # of each draw but the first, which has the golden rows and the edges
MIXED_ROWS = 16  # rows in which every feature is at some edge
RARE = 0.05  # share of random cells that are missing, and of those that are unseen

Draw = Callable[[int], Arrays]  # number of the draw -> probe rows, the same ones whenever it is asked


def draws_for(bundle: Bundle, seed: int = 0) -> Draw:
    """Return a source of probe rows: draw 0 has the golden rows and the edges, every later draw new random rows."""
    signature = bundle.manifest.signature
    golden = Encoder(signature).encode_rows(bundle.golden.rows[:GOLDEN_ROWS]).arrays

    def draw(number: int) -> Arrays:
        random = Random(f"{seed} {number}")  # noqa: S311 - NumPy's would take 15 ms of each start to import
        if number:
            return split(signature, random_rows(signature, RANDOM_ROWS, random))
        edges = split(signature, edge_rows(signature, random))
        return Arrays(_stacked(golden.numeric, edges.numeric), _stacked(golden.categorical, edges.categorical))

    return draw


def random_rows(signature: Signature, rows: int, random: Random) -> np.ndarray:
    """Return rows inside the training ranges, some cells missing or unseen: [rows, features] float64 with codes."""
    return np.stack([_random_cells(feature, rows, random) for feature in signature.inputs], axis=1)


def edge_rows(signature: Signature, random: Random) -> np.ndarray:
    """Return rows at the edges, [rows, features] float64 with codes.

    First rows with every feature at the same edge, then rows with each feature at a different edge.
    """
    edges = [list(_edges(feature)) for feature in signature.inputs]
    longest = max(len(values) for values in edges)
    together = np.array([[values[row % len(values)] for values in edges] for row in range(longest)])
    apart = np.array([random.choices(values, k=MIXED_ROWS) for values in edges]).T
    return np.concatenate([together, apart])


def _edges(feature: Feature) -> Iterator[float]:
    """Yield a feature's edge values; NaN is missing, a category is its code."""
    if feature.kind == "categorical":
        yield from _edge_codes(feature)
        return
    low, high = feature.range or (-1.0, 1.0)
    reach = 1000 * max(high - low, abs(low), abs(high), 1.0)
    yield from (low, high, low / 2 + high / 2, max(low - reach, -_MAX), min(high + reach, _MAX))
    yield from (0.0, -0.0, 1.0, -1.0)
    for kind in (np.finfo(np.float32), np.finfo(np.float64)):
        for size in (kind.smallest_subnormal, kind.smallest_normal, kind.max):
            yield from (float(size), -float(size))
    if feature.missing:
        yield np.nan


def _edge_codes(feature: Feature) -> Iterator[float]:
    listed = feature.codes.values()
    yield from {min(listed), max(listed), feature.unseen_code} if listed else {feature.unseen_code}
    if feature.missing:
        yield feature.missing_code


def _random_cells(feature: Feature, rows: int, random: Random) -> np.ndarray:
    rare = _shares(random, rows)
    if feature.kind == "categorical":
        known = list(feature.codes.values()) or [feature.unseen_code]
        cells = np.array(random.choices(known, k=rows), np.float64)
        cells[rare > 1 - RARE] = feature.unseen_code
        missing = float(feature.missing_code)
    else:
        low, high = feature.range or (-1.0, 1.0)
        part = _shares(random, rows)
        cells = low * (1 - part) + high * part  # high - low may overflow
        missing = np.nan
    if feature.missing:
        cells[rare < RARE] = missing
    return cells


def _shares(random: Random, rows: int) -> np.ndarray:
    return np.array([random.random() for _ in range(rows)])  # [rows] float64 in [0, 1)


def _stacked(above: np.ndarray | None, below: np.ndarray | None) -> np.ndarray | None:
    return None if above is None or below is None else np.concatenate([above, below])


_MAX = float(np.finfo(np.float64).max)
