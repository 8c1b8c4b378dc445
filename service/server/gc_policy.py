"""When this process looks for garbage: hardly while it starts, and never again among what it was started with."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

THRESHOLDS = (50_000, 20, 100)


@contextmanager
def paused() -> Iterator[None]:
    """Look for none within: imports and loading make a hundred thousand objects and next to no garbage."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def settle() -> None:
    """Keep what was loaded out of every later collection: collections are what the tail latency is made of.

    No last collection before it: it would take 25 ms, and free a thousand objects of fifty thousand.
    """
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
