"""A bar on a terminal; nothing elsewhere."""

import time
from collections.abc import Callable
from typing import TextIO

REDRAW = "\r\x1b[K"  # to the start of the line, which is cleared
CELLS = 24  # of a bar
EVERY_S = 0.1


class Progress:
    """How far one file is."""

    def __init__(
        self, name: str, total: int | None, stream: TextIO, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Show rows out of `total` (None: unknown) on `stream` where it is a terminal."""
        self._name = name
        self._total = total
        self._stream = stream
        self._clock = clock
        self._is_shown = stream.isatty()
        self._started_s = clock()
        self._next_s = 0.0
        self._rows_before: int | None = None

    def show(self, rows: int) -> None:
        """Draw the bar, at most ten times a second."""
        now_s = self._clock()
        if self._rows_before is None:
            self._rows_before = rows
        if not self._is_shown or now_s < self._next_s:
            return
        self._next_s = now_s + EVERY_S
        rate = (rows - self._rows_before) / max(now_s - self._started_s, 1e-9)  # rows a second
        self._stream.write(f"{REDRAW}{self._name} {self._bar(rows)}{rows:,} rows, {rate:,.0f} rows/s")
        self._stream.flush()

    def clear(self) -> None:
        """Leave an empty line."""
        if self._is_shown:
            self._stream.write(REDRAW)
            self._stream.flush()

    def _bar(self, rows: int) -> str:
        if not self._total:
            return ""
        share = min(rows / self._total, 1.0)
        return f"{bar(share)} {share:.0%} "


def bar(share: float) -> str:
    """Return a bar of which `share`, from 0 to 1, is full: `[######      ]`."""
    full = int(CELLS * share)
    return f"[{'#' * full}{' ' * (CELLS - full)}]"
