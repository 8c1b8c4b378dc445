"""SIGHUP before there is anything to reload: it is noted, and counts once the process can reload.

Blocking the signal instead would not hold: a process gets it in any of its threads, and libraries start threads of their own.
"""

import signal
from collections.abc import Callable
from typing import Any


class _Note:
    """A handler that notes that SIGHUP came."""

    def __init__(self) -> None:
        self.has_come = False

    def __call__(self, _signal: int, _frame: Any) -> None:
        self.has_come = True


def note_hangups() -> None:
    """Note SIGHUP until `handle_hangups`."""
    signal.signal(signal.SIGHUP, _Note())


def handle_hangups(handler: Callable[[int, Any], None]) -> bool:
    """Have `handler` handle SIGHUP from here on; returns whether one was noted before."""
    before = signal.signal(signal.SIGHUP, handler)
    return isinstance(before, _Note) and before.has_come
