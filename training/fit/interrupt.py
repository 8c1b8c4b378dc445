"""Ctrl-C while fitting: the first ends the fit after the epoch and keeps the best network so far; the second quits immediately."""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Self


class Interruption:
    """A context in which the first SIGINT only sets `asked`; every later one raises KeyboardInterrupt as usual."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """Inform the user through `say`."""
        self.asked = False
        self._say = say

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._first)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _first(self, number: int, _: FrameType | None) -> None:
        self.asked = True
        signal.signal(number, signal.default_int_handler)
        self._say(
            "Stopping after this epoch; the best network so far will be exported. Ctrl-C again quits without a bundle."
        )
