"""TensorBoard logs: one run a fit, every epoch's numbers, and a sentence where the package is absent."""

import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from batchproof.training.fit.loop import Epoch
from batchproof.training.fit.progress import Silent
from batchproof.training.fit.tensorboard import TensorBoardProgress, writer
from batchproof.training.settings import SettingError


def test_each_fit_is_a_run(tmp_path: Path) -> None:
    """Epoch 1 opens a new run; a run holds the losses of its epochs in order."""
    board = TensorBoardProgress(Silent(), tmp_path)
    for fit in (1.0, 2.0):
        for number in (1, 2, 3):
            board.epoch(Epoch(number, fit / number, fit / number, 1e-3, 0.1), 3)
    board.close()

    for run, fit in (("fit-1", 1.0), ("fit-2", 2.0)):
        read = EventAccumulator(str(tmp_path / run))
        read.Reload()
        found = [(event.step, event.value) for event in read.Scalars("validation_loss")]
        assert found == [(number, pytest.approx(fit / number)) for number in (1, 2, 3)]


def test_without_tensorboard_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named in one sentence."""
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(SettingError, match=r"pip install 'tensorboard>="):
        writer()
