"""One table with what all of its fits share, and what a fit of it comes to."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from batchproof.training.data.dataset import Dataset
from batchproof.training.fit import loop as fits
from batchproof.training.fit.loop import FitResult, Hooks
from batchproof.training.fit.plan import Plan
from batchproof.training.fit.progress import Progress
from batchproof.training.network import objective as targets
from batchproof.training.network.network import Network, dimensions
from batchproof.training.network.objective import Objective
from batchproof.training.network.tensors import Rows, encode, sample
from batchproof.training.preprocessing import preprocess as preprocesses
from batchproof.training.preprocessing.preprocess import Preprocess, Raw


@dataclass(frozen=True)
class Fitted:
    """The best network of a fit, with all that it was fitted with."""

    preprocess: Preprocess
    target: Objective
    rows: dict[str, Rows]  # train, validation
    result: FitResult
    chosen: dict[str, Any]  # what was decided, for provenance


@dataclass(frozen=True)
class FitContext:
    """What every fit of one table shares."""

    data: Dataset
    target: Objective
    progress: Progress
    stop: Callable[[], bool]

    @classmethod
    def of(cls, data: Dataset, progress: Progress, stop: Callable[[], bool]) -> "FitContext":
        """Fit the target's scale to the training rows."""
        return cls(data, targets.fit(data.goal.task, data.y("train"), len(data.goal.classes or ())), progress, stop)

    def fit(
        self,
        plan: Plan,
        sampled: int | None = None,
        resume: Mapping[str, Tensor] | None = None,
        checkpoint: Callable[[dict[str, Tensor]], None] | None = None,
    ) -> Fitted:
        """Fit as planned, to all training rows or to at most `sampled` of them, of which no epoch is shown."""
        raws, ys, weights = self._parts(plan.fit.seed, sampled)
        classes = self.data.goal.classes is not None
        preprocess = preprocesses.fit(raws["train"], ys["train"], classes=classes, encoding=plan.encoding)
        rows = {part: encode(preprocess, self.target, raws[part], ys[part], weights[part]) for part in raws}
        tables = tables_of(self.data, preprocess)
        drawn = torch.Generator().manual_seed(plan.fit.seed)
        network = Network(preprocess.width, tables, self.target.outputs, plan.network, drawn)
        hooks = Hooks(None if sampled else self.progress.epoch, self.stop, checkpoint)
        result = fits.fit(network, self.target, rows["train"], rows["validation"], plan.fit, hooks, resume)
        return Fitted(preprocess, self.target, rows, result, asdict(plan))

    def _parts(
        self, seed: int, sampled: int | None
    ) -> tuple[dict[str, Raw], dict[str, np.ndarray], dict[str, np.ndarray | None]]:
        raws, ys, weights = {}, {}, {}
        for part in ("train", "validation"):
            raw, y, weight = Raw(*self.data.arrays[part]), self.data.y(part), self.data.weights(part)
            if sampled is not None:
                index = sample(len(y), sampled, seed).numpy()
                raw, y = Raw(*(None if array is None else array[index] for array in raw)), y[index]
                weight = None if weight is None else weight[index]
            raws[part], ys[part], weights[part] = raw, y, weight
        return raws, ys, weights


def tables_of(data: Dataset, preprocess: Preprocess) -> list[tuple[int, int]]:
    """Return (codes, dimensions) of each embedded column: its categories, missing and unseen."""
    features = data.signature.categorical
    counts = [features[column].code_count for column in preprocess.embedded.tolist()]
    return [(count, dimensions(count)) for count in counts]
