"""Ctrl-C while fitting: the first ends the fit after the epoch and keeps the best network so far; the second quits immediately."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Self


class Interruption:
    """A context in which the first SIGINT only sets `asked`; every later one raises KeyboardInterrupt as usual.

    Only the main thread of a program gets signals: in another one, such as a worker's of Ray, nothing changes.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        """Inform the user through `say`."""
        self.asked = False
        self._before: Callable[[int, FrameType | None], object] | int | None = None
        self._say = say

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._first)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _first(self, number: int, _: FrameType | None) -> None:
        self.asked = True
        signal.signal(number, signal.default_int_handler)
        self._say(
            "Stopping after this epoch; the best network so far will be exported. Ctrl-C again quits without a bundle."
        )
