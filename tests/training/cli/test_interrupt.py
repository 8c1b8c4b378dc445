"""Ctrl-C while fitting."""

import os
import signal

import pytest

from batchproof.training.cli.interrupt import Interruption


def test_first_and_second() -> None:
    """The first Ctrl-C is only noted and said; the second is KeyboardInterrupt; afterwards all is as before."""
    said: list[str] = []
    before = signal.getsignal(signal.SIGINT)
    with Interruption(said.append) as interruption:
        assert not interruption.asked
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption.asked
        assert said[0].startswith("Stopping after this epoch; the best network so far will be exported.")
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
