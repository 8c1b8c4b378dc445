"""One way to fit a table, what all fits of it share, and the result of one."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from batchproof.service.features.arrays import Arrays
from batchproof.training.data.dataset import Dataset
from batchproof.training.distributed.group import Group
from batchproof.training.distributed.tree import SHARDS
from batchproof.training.fit import loop
from batchproof.training.fit.loop import FitResult, FitSettings, Hooks
from batchproof.training.fit.progress import Progress
from batchproof.training.fit.sharded import ShardedRun
from batchproof.training.network import objective as objectives
from batchproof.training.network.network import Network, NetworkSettings, dimensions
from batchproof.training.network.objective import Objective
from batchproof.training.network.tensors import HeldRows, encode, sample
from batchproof.training.preprocessing import fitting as encodings
from batchproof.training.preprocessing.fitting import Encoding
from batchproof.training.preprocessing.preprocess import Preprocess


@dataclass(frozen=True)
class Plan:
    """One way to fit a table: a candidate."""

    name: str  # that of its encoding
    encoding: Encoding
    network: NetworkSettings
    fit: FitSettings


@dataclass(frozen=True)
class Fitted:
    """The best network of a fit, with its encodings and rows."""

    preprocess: Preprocess
    objective: Objective
    rows: dict[str, HeldRows]  # train, validation
    result: FitResult
    chosen: dict[str, Any]  # its plan, for provenance


@dataclass(frozen=True)
class FitContext:
    """The shared context of all fits of one table: data, objective, interrupt, progress and, if there are any, processes."""

    data: Dataset
    objective: Objective
    progress: Progress
    stop: Callable[[], bool]  # whether this process was asked to end
    # The processes that share every fit to all rows; None: there is only this one, without shards.
    group: Group | None = None

    @classmethod
    def of(
        cls,
        data: Dataset,
        progress: Progress,
        stop: Callable[[], bool],
        metric: str | None = None,
        group: Group | None = None,
    ) -> "FitContext":
        """Fit the target's scale to the training rows; held-out rows are judged by `metric`, or by the loss."""
        target = data.target
        objective = objectives.fit(
            target.task, data.y("train"), len(target.classes or ()), metric, target.objective, target.quantiles
        )
        return cls(data, objective, progress, stop, group)

    def stopped(self) -> bool:
        """Return whether any of the processes was asked to end: the same answer in all of them."""
        return self.stop() if self.group is None else self.group.any(flag=self.stop())

    def fit(
        self,
        plan: Plan,
        sampled: int | None = None,
        resume: Mapping[str, Tensor] | None = None,
        checkpoint: Callable[[dict[str, Tensor]], None] | None = None,
    ) -> Fitted:
        """Fit one plan to all training rows, or to at most `sampled` of them: by this process alone, in silence."""
        raws, ys, weights = self._parts(plan.fit.seed, sampled)
        classes = self.data.target.classes is not None
        y = ys["train"]
        if self.objective.targets > 1:
            y = y / np.asarray(self.objective.std)  # one scale for trees
        directions = self.data.directions
        ordered = np.flatnonzero(directions)
        preprocess = encodings.fit(
            raws["train"], y, classes=classes, encoding=plan.encoding, ordered=ordered, dates=self.data.dates
        )
        room = self.data.room_bytes // sum(map(len, ys.values()))  # for each row
        rows = {}
        for part, raw in raws.items():
            weight, row_weight = weights[part]
            rows[part] = encode(preprocess, self.objective, raw, ys[part], weight, row_weight, room * len(ys[part]))
        tables = embedding_tables(self.data, preprocess)
        generator = torch.Generator().manual_seed(plan.fit.seed)
        network = Network(
            preprocess.width,
            tables,
            self.objective.outputs,
            plan.network,
            generator,
            preprocess.directions(directions),
        )
        group = None if sampled else self.group
        stop = self.stop if group is None else self.stopped
        hooks = Hooks(None if sampled else self.progress.epoch, stop, checkpoint)
        if not sampled:
            self.progress.begin(plan.name)
        start = None if group is None else partial(ShardedRun, group=group)
        result = loop.fit(network, self.objective, rows["train"], rows["validation"], plan.fit, hooks, resume, start)
        chosen = asdict(plan) | ({} if group is None else {"shards": SHARDS})
        return Fitted(preprocess, self.objective, rows, result, chosen)

    def _parts(
        self, seed: int, sampled: int | None
    ) -> tuple[dict[str, Arrays], dict[str, np.ndarray], dict[str, list[np.ndarray | None]]]:
        raws, ys, weights = {}, {}, {}
        for part in ("train", "validation"):
            raw, y, weight = (
                self.data.arrays[part],
                self.data.y(part),
                [self.data.weights(part), self.data.row_weights(part)],
            )
            if sampled is not None:
                index = sample(len(y), sampled, seed).numpy()
                raw, y = raw.take(index), y[index]
                weight = [None if each is None else each[index] for each in weight]
            raws[part], ys[part], weights[part] = raw, y, weight
        return raws, ys, weights


def embedding_tables(data: Dataset, preprocess: Preprocess) -> list[tuple[int, int]]:
    """Return (codes, dimensions) of the embedding of each embedded column."""
    features = data.signature.categorical
    counts = [features[column].code_count for column in preprocess.embedded.tolist()]
    return [(count, dimensions(count)) for count in counts]
