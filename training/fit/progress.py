"""Progress of a run: a bar that is redrawn on a terminal, plain lines elsewhere."""

import sys
import time
from typing import TYPE_CHECKING, TextIO

from batchproof.service.tables.offline.progress import REDRAW, bar

if TYPE_CHECKING:  # it loads torch, which takes seconds
    from batchproof.training.fit.loop import Epoch

PLAIN_LINES = 20  # approximate number of lines of a fit where the stream is not a terminal


class Progress:
    """Prints lines, and between them the epochs of a fit."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        """Write to `stream`, by default standard output; `quiet` leaves out the epochs."""
        self.stream = stream or sys.stdout
        self.quiet = quiet
        self._is_terminal = self.stream.isatty()
        self._start_s = time.monotonic()
        self._open = False  # whether the current line holds a bar

    def say(self, line: str) -> None:
        """Print a line."""
        if self._open:
            self.stream.write("\n")
            self._open = False
        self.stream.write(line + "\n")
        self.stream.flush()

    def tried(self, encoding: str, loss: float, number: int, total: int) -> None:
        """Say how the candidate with this number, of several, did on the validation rows."""
        self.say(f"candidate {number} of {total}, encoding {encoding!r}: validation loss {loss:.4f}")

    def begin(self, encoding: str) -> None:
        """Note that the epochs of another fit begin."""

    def epoch(self, epoch: "Epoch", epochs: int) -> None:
        """Show a finished epoch of `epochs` planned ones."""
        if epoch.number == 1:
            self._start_s = time.monotonic() - epoch.seconds
        if self.quiet:
            return
        elapsed = time.monotonic() - self._start_s
        remaining_s = elapsed / epoch.number * (epochs - epoch.number)
        text = f"epoch {epoch.number}/{epochs}  training {epoch.train_loss:.4f}  validation {epoch.validation_loss:.4f}"
        if self._is_terminal:
            self.stream.write(f"{REDRAW}{bar(epoch.number / epochs)} {text}  at most {duration(remaining_s)} left")
            self.stream.flush()
            self._open = epoch.number < epochs
            if not self._open:
                self.stream.write("\n")
        elif epoch.number % max(1, epochs // PLAIN_LINES) == 0 or epoch.number in (1, epochs):
            self.say(f"{text}  {duration(elapsed)} so far")


class Silent(Progress):
    """Prints nothing: for callers that only want the bundle."""

    def say(self, line: str) -> None:
        """Print nothing."""

    def epoch(self, epoch: "Epoch", epochs: int) -> None:
        """Show nothing."""


def duration(seconds: float) -> str:
    """Return a duration for people: 8.3 s, 2 min 05 s."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"
