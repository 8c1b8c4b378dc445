"""How far a long list or frame is: a bar on standard error, or the caller's own function."""

import sys
import time
from collections.abc import Callable
from typing import TextIO

WIDTH = 30  # characters of the bar
Progress = Callable[[int, int], object]  # rows answered so far, and rows in all


class Bar:
    """A line that is written over as rows are answered, and ended with the last of them."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """Write to `stream`, standard error unless one is given."""
        self._stream = stream or sys.stderr
        self._start_s = time.monotonic()

    def __call__(self, done: int, rows: int) -> None:
        """Show that `done` of `rows` rows are answered."""
        share = done / rows if rows else 1.0
        filled = round(share * WIDTH)
        seconds = time.monotonic() - self._start_s
        rate = f", {done / seconds:.0f} rows/s" if seconds > 0 else ""
        end = "\n" if done >= rows else ""
        bar = "#" * filled + "." * (WIDTH - filled)
        self._stream.write(f"\r[{bar}] {done} of {rows} rows, {seconds:.1f} s{rate}{end}")
        self._stream.flush()


def progress_of(wanted: Progress | bool | None) -> Progress | None:  # noqa: FBT001 - True asks for the bar
    """Return what is called after each request: the caller's function, a bar for True, or nothing."""
    if wanted is True:
        return Bar()
    return None if wanted is None or wanted is False else wanted
