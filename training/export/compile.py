"""The fitted network as the graph that will be served: folded, exported, and checked against what was trained."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from batchproof.service.features.arrays import Arrays, Outputs
from batchproof.service.inference.runner import Runner
from batchproof.training.data.dataset import Dataset
from batchproof.training.data.rows.prior import Prior
from batchproof.training.export import float32, temperature
from batchproof.training.export.exact import build as exact
from batchproof.training.export.exact.build import Exact
from batchproof.training.export.runner import runner_of
from batchproof.training.fit.context import Fitted
from batchproof.training.network import parity
from batchproof.training.network.fold import Folded, Output, shifted
from batchproof.training.network.fold_torch import fold_network, unfolded_scores
from batchproof.training.network.network import Network
from batchproof.training.network.tensors import HeldRows
from batchproof.training.network.weights import Weights, maxima_of
from batchproof.training.prove.monotone import features

PIECE_ROWS = 4_096  # training rows of float64 activations at a time
PARITY_ROWS = 4_096  # validation rows that the stages are compared on, at most


class Folding(NamedTuple):
    """The folded network, and what its scores are compared with."""

    folded: Folded
    temperature: float  # that the scores are divided by
    unfolded: np.ndarray  # [validation rows, outputs] float64, scores before folding and temperature
    shift: np.ndarray | None = None  # [classes] float64, added to the scores for other base rates


class NormStatistics(NamedTuple):
    """One batch-norm layer, all members' channels: [channels] float64 each."""

    running_mean: np.ndarray  # the averaged network's running statistics, at the end of training
    running_var: np.ndarray
    mean: np.ndarray  # recomputed over all training rows
    var: np.ndarray


@dataclass(frozen=True)
class CompiledModel:
    """The graph, what it was made from, and an engine that runs it."""

    model: bytes  # model.onnx, serialised
    weights: Weights
    runner: Runner  # on the engine that serves
    proved: Exact | None  # where the arithmetic is exact
    temperature: float  # that the scores were divided by
    norms: tuple[NormStatistics, ...]  # one a hidden layer

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without the engine, which is started again from the graph."""
        return _started, (self.model, self.weights, self.proved, self.temperature, self.norms)

    def run(self, arrays: Arrays) -> Outputs:
        """Return the engine's outputs [rows, width] for rows."""
        return self.runner.run([arrays])[0]


def fold(fitted: Fitted, frozen: Network, prior: Prior | None = None) -> Folding:
    """Fit the temperature on the validation rows, and fold it, the batch norms of `frozen` and the `prior` into the weights."""
    validation, objective = fitted.rows["validation"], fitted.objective
    unfolded = unfolded_scores(frozen, validation)
    divisor = temperature.fit(torch.from_numpy(unfolded), validation.y, objective, validation.weight)
    output = Output(objective.task, objective.mean, objective.std, is_log=objective.loss != "squared_error")
    folded = fold_network(frozen, fitted.preprocess.embedded.tolist(), output, divisor)
    if prior is None:
        return Folding(folded, divisor, unfolded)
    return Folding(shifted(folded, prior.shift), divisor, unfolded, prior.shift)


def export(data: Dataset, fitted: Fitted, frozen: Network, folding: Folding, arithmetic: str) -> CompiledModel:
    """Export the folded network in "float32" or "exact" arithmetic.

    Raises ProofError where an exact graph is not proved exact, or where a graph does not keep the monotone constraints.
    """
    maxima = maxima_of(folding.folded, _pieces(fitted.rows["train"], data.arrays["train"].categorical))
    weights = Weights(fitted.preprocess, folding.folded, maxima)
    proved = exact.build(weights) if arithmetic == "exact" else None
    model = proved.model if proved else float32.export(weights.preprocess, weights.folded).SerializeToString()
    if data.monotone:
        features.check(model, [feature.name for feature in data.signature.numeric], data.monotone)
    return _started(model, weights, proved, folding.temperature, statistics(fitted.result.network, frozen))


def _pieces(rows: HeldRows, codes: np.ndarray | None) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Yield the encoded rows x [rows, width] and all their codes [rows, categorical], PIECE_ROWS at a time."""
    for start in range(0, len(rows.y), PIECE_ROWS):
        stop = start + PIECE_ROWS
        yield rows.cut(start, stop).x.numpy(), None if codes is None else codes[start:stop]


def check_parity(data: Dataset, fitted: Fitted, folding: Folding, compiled: CompiledModel) -> dict[str, float]:
    """Compare the stages on validation rows; returns {stage: greatest difference, in units of the scores' spread}.

    Raises ParityError where a stage changed the network.
    """
    arrays = data.arrays["validation"].take(slice(PARITY_ROWS))
    x = fitted.rows["validation"].cut(0, PARITY_ROWS).x.numpy()
    reference = folding.folded.scores(x, arrays.categorical)
    return {
        "fold": parity.check_fold(folding.unfolded[:PARITY_ROWS], reference, folding.temperature, folding.shift),
        "engine": parity.check_engine(folding.folded, reference, compiled.run(arrays)),
    }


def statistics(trained: Network, frozen: Network) -> tuple[NormStatistics, ...]:
    """Return the statistics of each layer's batch norm at the end of training, and after they were recomputed."""
    return tuple(
        NormStatistics(*(_numbers(block, name) for block in blocks for name in ("running_mean", "running_var")))
        for blocks in zip(trained.blocks, frozen.blocks, strict=True)
    )


def _numbers(block: nn.Module, name: str) -> np.ndarray:
    return block.get_buffer(f"norm.{name}").double().numpy()


def _started(
    model: bytes, weights: Weights, proved: Exact | None, divisor: float, norms: tuple[NormStatistics, ...]
) -> CompiledModel:
    return CompiledModel(model, weights, runner_of(model), proved, divisor, norms)
