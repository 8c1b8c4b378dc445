"""Threads for the work before and after the engine: prefetching items, and writing them behind.

Both keep the order and hold a bounded number of pieces. A few pieces, not one, wait between two threads, because the
pieces of a table are uneven: the first block of a row group waits for the disk, and the last one for all of it to be
compressed.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Prefetch(Generic[Item]):
    """An iterator that makes its items in a separate thread, at most `depth` of them ahead of the caller."""

    def __init__(self, items: Iterator[Item], depth: int) -> None:
        """Begin to read `items`; nothing else may read them from now on."""
        self._items = items
        self._thread = ThreadPoolExecutor(1)
        self._made = deque(self._thread.submit(next, items, None) for _ in range(depth))

    def __enter__(self) -> Self:
        """Return the iterator."""
        return self

    def __exit__(self, *_: object) -> None:
        """Make nothing more."""
        self._thread.shutdown(cancel_futures=True)

    def __iter__(self) -> Iterator[Item]:
        """Yield the items; raises what making one raised, in its place."""
        while (item := self._made.popleft().result()) is not None:
            self._made.append(self._thread.submit(next, self._items, None))
            yield item


class InOrder(Generic[Item, Result]):
    """Items worked on by several threads at a time; the results come in the order of the items."""

    def __init__(self, items: Iterator[Item], work: Callable[[Item], Result], threads: int) -> None:
        """Begin with the first items: one for each thread, and one that waits."""
        self._items = items
        self._work = work
        self._threads = ThreadPoolExecutor(threads)
        self._depth = threads + 1

    def __enter__(self) -> Self:
        """Return the iterator."""
        return self

    def __exit__(self, *_: object) -> None:
        """Work on nothing more."""
        self._threads.shutdown(cancel_futures=True)

    def __iter__(self) -> Iterator[Result]:
        """Yield the results; raises what working on an item raised, in its place."""
        running: deque[Future[Result]] = deque()
        for item in self._items:
            running.append(self._threads.submit(self._work, item))
            if len(running) >= self._depth:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


class WriteBehind:
    """Work that a separate thread does in order, with at most `depth` pieces waiting."""

    def __init__(self, depth: int) -> None:
        """Begin with nothing to do."""
        self._depth = depth
        self._thread = ThreadPoolExecutor(1)
        self._waiting: deque[Future[None]] = deque()
        self._is_broken = False

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wait until everything is done, or nothing more can be."""
        self._thread.shutdown()

    def put(self, work: Callable[[], None]) -> None:
        """Hand over a piece, waiting while there are too many; raises what an earlier piece raised."""
        while len(self._waiting) >= self._depth:
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._do, work))

    def finish(self) -> None:
        """Wait until everything is done; raises what a piece raised."""
        while self._waiting:
            self._waiting.popleft().result()

    def _do(self, work: Callable[[], None]) -> None:
        """Do a piece, unless one before it failed: later ones build on it."""
        if self._is_broken:
            return
        self._is_broken = True
        work()
        self._is_broken = False
