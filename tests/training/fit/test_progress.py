"""Progress: a bar on a terminal, plain lines elsewhere."""

import io

import pytest

from batchproof.training.fit.loop import Epoch
from batchproof.training.fit.progress import Progress, duration


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def told(stream: io.StringIO, epochs: int, *, quiet: bool = False) -> str:
    """Return what is written of a fit and a line after it."""
    progress = Progress(stream, quiet=quiet)
    for number in range(1, epochs + 1):
        progress.epoch(Epoch(number, 0.5, 0.25, 0.001, 2.0), epochs)
    progress.say("done")
    return stream.getvalue()


def test_bar() -> None:
    """On a terminal one line is redrawn, full at the end, and the next line starts below it."""
    said = told(Terminal(), 3)
    assert said.count("\r") == 3
    assert said.endswith("\ndone\n")
    assert "[" + "#" * 24 + "] epoch 3/3  training 0.5000  validation 0.2500  at most 0.0 s left" in said


def test_plain_lines() -> None:
    """Elsewhere the epochs are plain lines, about twenty of them however many there are."""
    said = told(io.StringIO(), 400).splitlines()
    assert said[0].startswith("epoch 1/400  training 0.5000  validation 0.2500")
    assert said[-2].startswith("epoch 400/400")
    assert len(said) <= 24
    assert not {"\r", "\x1b"} & set("".join(said))


def test_an_unfinished_bar_ends() -> None:
    """A line said while a bar stands starts on a line of its own."""
    stream = Terminal()
    progress = Progress(stream)
    progress.epoch(Epoch(1, 0.5, 0.25, 0.001, 2.0), 9)
    progress.say("stopping")
    assert stream.getvalue().endswith("left\nstopping\n")


def test_quiet() -> None:
    """Quiet leaves the epochs out, not the lines."""
    assert told(io.StringIO(), 5, quiet=True) == "done\n"


@pytest.mark.parametrize("seconds, text", [(0.04, "0.0 s"), (59.94, "59.9 s"), (125.0, "2 min 05 s")])
def test_duration(seconds: float, text: str) -> None:
    """Times are written for people."""
    assert duration(seconds) == text
