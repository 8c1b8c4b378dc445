"""Requests joined into runs and split again: the one piece of code that serving and verifying share."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeAlias

import numpy as np

from batchproof.service.features.arrays import Outputs

Feeds: TypeAlias = Sequence[np.ndarray | None]  # one array [rows, ...] for each input, None where the graph has none


class SplitOutputs(list[Outputs]):
    """The outputs of each request of a run, and the joined arrays that they are parts of."""

    __slots__ = ("feeds", "outputs")

    def __init__(self, parts: Iterable[Outputs], feeds: Feeds, outputs: Outputs) -> None:
        """Hold the outputs of each request; `feeds` and `outputs` have the rows of all, in order."""
        super().__init__(parts)
        self.feeds = feeds
        self.outputs = outputs


class BatchRunner(Protocol):
    """What runs one batch: the engine."""

    def run(self, feeds: Feeds) -> Outputs:
        """Return the outputs of one batch; raises EngineError."""


class RequestRunner(Protocol):
    """What joins requests, runs them and splits the outputs: `Runner`."""

    def run(self, requests: Sequence[Feeds]) -> Sequence[Outputs]:
        """Return the outputs of each request, in order; raises EngineError."""


class Runner:
    """An engine with its allowed run sizes. `run` may be called from several threads at once."""

    def __init__(self, engine: BatchRunner, run_rows: int, tile_rows: int | None = None) -> None:
        """Let runs have at most `run_rows` rows or, where `tile_rows` is set, exactly that many."""
        if run_rows < 1 or (tile_rows is not None and tile_rows < 1):
            raise ValueError("a run has at least one row")
        self.engine = engine
        self.run_rows = tile_rows or run_rows
        self.tile_rows = tile_rows

    def run(self, requests: Sequence[Feeds]) -> SplitOutputs:
        """Run requests together; returns the outputs of each, in order. A request may have no row."""
        if len(requests) == 1:
            feeds = requests[0]
            outputs = self._run_joined(feeds)
            return SplitOutputs((outputs,), feeds, outputs)
        sizes = [rows_of(feeds) for feeds in requests]
        joined = [_join(arrays) for arrays in zip(*requests, strict=True)]
        outputs = self._run_joined(joined)
        return SplitOutputs(_split(outputs, sizes), joined, outputs)

    def _run_joined(self, feeds: Feeds) -> Outputs:
        rows = rows_of(feeds)
        if rows <= self.run_rows:
            return self._run_once(feeds, rows)
        starts = range(0, rows, self.run_rows)
        runs = [
            self._run_once(_rows(feeds, start, start + self.run_rows), min(self.run_rows, rows - start))
            for start in starts
        ]
        return {name: np.concatenate([outputs[name] for outputs in runs]) for name in runs[0]}

    def _run_once(self, feeds: Feeds, rows: int) -> Outputs:
        # An engine need not take a batch of no rows: it gets one, and none of its outputs is kept.
        wanted = self.tile_rows or max(rows, 1)
        if rows == wanted:
            return self.engine.run(feeds)
        outputs = self.engine.run([None if array is None else _pad(array, wanted) for array in feeds])
        return {name: array[:rows] for name, array in outputs.items()}


def rows_of(feeds: Feeds) -> int:
    """Return how many rows a request has; raises ValueError where it has no array."""
    for array in feeds:
        if array is not None:
            return len(array)
    raise ValueError("a request has an array for at least one input")


def _join(arrays: Sequence[np.ndarray | None]) -> np.ndarray | None:
    present = [array for array in arrays if array is not None]
    return np.concatenate(present) if present else None


def _rows(feeds: Feeds, start: int, stop: int) -> list[np.ndarray | None]:
    return [None if array is None else array[start:stop] for array in feeds]


def _pad(array: np.ndarray, rows: int) -> np.ndarray:
    """Repeat the first row until there are `rows` rows, since a valid row stays valid. Without rows, use zeros."""
    filler = array[:1] if len(array) else np.zeros((1, *array.shape[1:]), array.dtype)
    return np.concatenate([array, np.repeat(filler, rows - len(array), axis=0)])


def _split(joined: Outputs, sizes: Sequence[int]) -> Iterator[Outputs]:
    start = 0
    for size in sizes:
        yield {name: array[start : start + size] for name, array in joined.items()}
        start += size
