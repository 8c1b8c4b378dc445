"""The fitted network as the graph that will be served: frozen, folded, exported, and held to what was trained."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from batchproof.service.features.arrays import Arrays, Outputs
from batchproof.service.inference.runner import Runner
from batchproof.training.data.dataset import Dataset
from batchproof.training.export import float32 as export
from batchproof.training.export import temperature
from batchproof.training.export.exact import build as exact
from batchproof.training.export.exact.build import Exact
from batchproof.training.export.runner import runner_of
from batchproof.training.fit.context import Fitted
from batchproof.training.network import batchnorm, parity
from batchproof.training.network import fold_torch as freeze
from batchproof.training.network.fold import Output
from batchproof.training.network.network import Network
from batchproof.training.network.weights import Weights, maxima_of

PARITY_ROWS = 4_096  # validation rows that the stages are compared on, at most


class NormStatistics(NamedTuple):
    """One batch-norm layer, all members' channels: [channels] float64 each."""

    running_mean: np.ndarray  # the averaged network's running statistics, at the end of training
    running_var: np.ndarray
    mean: np.ndarray  # recomputed over all training rows
    var: np.ndarray


@dataclass(frozen=True)
class CompiledModel:
    """The graph, what it was made from, and what held it to the network that was trained."""

    model: bytes  # model.onnx, serialised
    weights: Weights
    runner: Runner  # on the engine that serves
    proved: Exact | None  # where the arithmetic is exact
    parity: dict[str, float]  # stage -> greatest difference, in units of the scores' spread
    temperature: float  # that the scores were divided by
    norms: tuple[NormStatistics, ...]  # one a hidden layer

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without the engine, which is started anew from the graph."""
        return _started, (self.model, self.weights, self.proved, self.parity, self.temperature, self.norms)

    def run(self, arrays: Arrays) -> Outputs:
        """Return the engine's outputs [rows, width] for rows."""
        return self.runner.run([arrays])[0]


def make(data: Dataset, fitted: Fitted, arithmetic: str) -> CompiledModel:
    """Freeze, fold, export and check; ParityError or ProofError names what does not hold."""
    rows, target = fitted.rows, fitted.target
    frozen = batchnorm.recompute(fitted.result.network, rows["train"])
    unfolded = freeze.unfolded_scores(frozen, rows["validation"])  # [rows, outputs] float64
    held = rows["validation"]
    divisor = temperature.fit(torch.from_numpy(unfolded), held.y, target, held.weight)
    output = Output(data.goal.task, target.mean, target.std)
    folded = freeze.fold_network(frozen, fitted.preprocess.embedded.tolist(), output, divisor)
    arrays = Arrays(*(None if array is None else array[:PARITY_ROWS] for array in data.arrays["validation"]))
    reference = folded.scores(rows["validation"].x[:PARITY_ROWS].numpy(), arrays.categorical)
    fold_error = parity.check_fold(unfolded[:PARITY_ROWS], reference, divisor)
    maxima = maxima_of(folded, rows["train"].x.numpy(), data.arrays["train"].categorical)
    weights = Weights(fitted.preprocess, folded, maxima)
    proved = exact.build(weights) if arithmetic == "exact" else None
    model = proved.model if proved else export.export(weights.preprocess, weights.folded).SerializeToString()
    norms = statistics(fitted.result.network, frozen)
    made = _started(model, weights, proved, {"fold": fold_error}, divisor, norms)
    engine_error = parity.check_engine(folded, reference, made.run(arrays))
    return replace(made, parity={**made.parity, "engine": engine_error})


def statistics(trained: Network, frozen: Network) -> tuple[NormStatistics, ...]:
    """Return what each layer's batch norm ran with in training, and what it is frozen with."""
    return tuple(
        NormStatistics(*(_numbers(block, name) for block in blocks for name in ("running_mean", "running_var")))
        for blocks in zip(trained.blocks, frozen.blocks, strict=True)
    )


def _numbers(block: nn.Module, name: str) -> np.ndarray:
    return block.get_buffer(f"norm.{name}").double().numpy()


def _started(
    model: bytes,
    weights: Weights,
    proved: Exact | None,
    errors: dict[str, float],
    divisor: float,
    norms: tuple[NormStatistics, ...],
) -> CompiledModel:
    return CompiledModel(model, weights, runner_of(model), proved, errors, divisor, norms)
