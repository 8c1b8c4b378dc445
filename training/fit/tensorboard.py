"""TensorBoard logs of the epochs of each fit."""

from pathlib import Path
from typing import Any

from batchproof.installation import hint
from batchproof.training.fit.loop import Epoch
from batchproof.training.fit.progress import Progress
from batchproof.training.settings import SettingError


class TensorBoardProgress(Progress):
    """Forwards to another progress, and logs each epoch; each fit is a separate run."""

    def __init__(self, inner: Progress, folder: Path) -> None:
        """Write below `folder`; SettingError where TensorBoard is not installed."""
        super().__init__(inner.stream)
        self._inner = inner
        self._folder = folder
        self._make = writer()
        self._fits = 0
        self._writer: Any = None

    def say(self, line: str) -> None:
        """Forward a line."""
        self._inner.say(line)

    def tried(self, encoding: str, loss: float, number: int, total: int) -> None:
        """Forward a candidate."""
        self._inner.tried(encoding, loss, number, total)

    def begin(self, encoding: str) -> None:
        """Forward the beginning of a fit."""
        self._inner.begin(encoding)

    def epoch(self, epoch: Epoch, epochs: int) -> None:
        """Forward an epoch, and log it; the first epoch of a fit opens a new run."""
        self._inner.epoch(epoch, epochs)
        if epoch.number == 1:
            self._fits += 1
            self.close()
            self._writer = self._make(str(self._folder / f"fit-{self._fits}"))
        for name in ("train_loss", "validation_loss", "learning_rate", "seconds"):
            self._writer.add_scalar(name, getattr(epoch, name), epoch.number)

    def close(self) -> None:
        """Close the open run."""
        if self._writer is not None:
            self._writer.close()


def writer() -> Any:
    """Return torch's SummaryWriter, imported late: it loads a hundred modules. Raises SettingError."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise SettingError(f"--tensorboard needs the package tensorboard: {hint('tensorboard')}.") from error
    return SummaryWriter
