"""Garbage collector policy: off during start-up, and start-up objects are never looked at again."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

THRESHOLDS = (50_000, 20, 100)


@contextmanager
def paused() -> Iterator[None]:
    """Turn the collector off within: imports and loading make a hundred thousand objects and almost no garbage."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def settle() -> None:
    """Exclude what was loaded from every later collection, because collections make most of the tail latency.

    There is no last collection before it: that would take 25 ms, and free a thousand objects of fifty thousand.
    """
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
