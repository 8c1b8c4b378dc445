"""Batch norm folded into the linear maps around it, in float64, which leaves Linear, ReLU, …, Linear.

In inference a batch-norm layer uses each channel's frozen mean m and variance v:

    y = gamma · (x − m) / sqrt(v + eps) + beta        with x = W a (+ b)

which is affine in a. With s = gamma / sqrt(v + eps) it is one linear map:

    y = (s · W) a + (s · (b − m) + beta)

(Ioffe, Szegedy 2015, section 3.1.) `affine=False` is gamma = 1, beta = 0. Further affine steps join the last layer:
the temperature divides its scores, each of k members contributes 1/k, a binary classifier's one logit L becomes the
two scores (0, L), and other base rates than the training rows' add a constant to each score. The exporters only add up the members' scores.
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from batchproof.service.bundle.signature import Task

LOG_REACH = 40.0  # of a logarithm, in either direction from that of the training rows' mean
LEAST_VALUE, MOST_VALUE = 1e-37, 1e38  # between the least and the greatest normal float32


class Norm(NamedTuple):
    """One frozen batch-norm layer; gamma and beta are None for `affine=False`."""

    mean: np.ndarray  # [channels] float64
    var: np.ndarray  # [channels] float64, population variance
    eps: float
    gamma: np.ndarray | None = None  # [channels] float64
    beta: np.ndarray | None = None  # [channels] float64


class Layer(NamedTuple):
    """One affine map a -> weight a + bias."""

    weight: np.ndarray  # [out, in] float64
    bias: np.ndarray  # [out] float64


class Member(NamedTuple):
    """One network of the ensemble: ReLU between the layers, none after the last."""

    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class Output:
    """How to interpret the summed scores of the members."""

    task: Task
    # Regression: value = score · value_std + value_mean, in the target's own unit.
    value_mean: float | tuple[float, ...] = 0.0
    value_std: float | tuple[float, ...] = 1.0  # both of several targets: one for each
    # Whether the score is a logarithm: value = exp(score) · value_std, the score within `log_limits`.
    is_log: bool = False

    @property
    def targets(self) -> int:
        """How many of the scores are values; further scores of a regression are quantiles of the only one."""
        return len(self.value_std) if isinstance(self.value_std, tuple) else 1

    @property
    def log_unit(self) -> float:
        """What exp(score) is multiplied by."""
        assert not isinstance(self.value_std, tuple), "several targets have no logarithms"
        return self.value_std

    @property
    def log_limits(self) -> tuple[float, float]:
        """The least and the greatest logarithm, whole numbers, so that every value is a normal float32."""
        unit = math.log(self.log_unit)
        least, most = math.ceil(math.log(LEAST_VALUE) - unit), math.floor(math.log(MOST_VALUE) - unit)
        return max(-LOG_REACH, float(least)), min(LOG_REACH, float(most))


@dataclass(frozen=True)
class Folded:
    """The trained network without batch norm: the common input of both exporters.

    The input of every member's first layer is the encoded matrix x [rows, width], followed by one row of
    `embeddings[e]` for the code in column `embedded[e]` of the categorical input.
    """

    embedded: tuple[int, ...]  # columns of the graph input `categorical`
    embeddings: tuple[np.ndarray, ...]  # each [codes, dim] float64
    members: tuple[Member, ...]
    output: Output

    def inputs(self, x: np.ndarray, codes: np.ndarray | None) -> np.ndarray:
        """Return the first layer's input [rows, in] float64 of x [rows, width] and codes [rows, categorical] int64."""
        parts = [np.asarray(x, np.float64)]
        for column, table in zip(self.embedded, self.embeddings, strict=True):
            assert codes is not None, "an embedded column needs the categorical input"
            parts.append(table[codes[:, column]])
        return np.concatenate(parts, axis=1)

    def scores(self, x: np.ndarray, codes: np.ndarray | None) -> np.ndarray:
        """Return the summed scores [rows, outputs] float64: the reference that every exported graph is compared with."""
        first = self.inputs(x, codes)
        return sum((activations(member, first)[-1] for member in self.members), np.zeros(1))


def activations(member: Member, first: np.ndarray) -> list[np.ndarray]:
    """Return each layer's result [rows, out] float64: after ReLU for the hidden ones, the scores last."""
    results: list[np.ndarray] = []
    a = first
    for index, layer in enumerate(member.layers):
        a = a @ layer.weight.T + layer.bias
        if index < len(member.layers) - 1:
            a = np.maximum(a, 0.0)
        results.append(a)
    return results


def fold_block(weight: np.ndarray, norm: Norm, bias: np.ndarray | None = None) -> Layer:
    """Fold the batch norm after the linear map `weight` [out, in] (and `bias` [out]) into one affine map."""
    gamma = np.ones_like(norm.mean, np.float64) if norm.gamma is None else norm.gamma.astype(np.float64)
    beta = np.zeros_like(norm.mean, np.float64) if norm.beta is None else norm.beta.astype(np.float64)
    scale = gamma / np.sqrt(norm.var.astype(np.float64) + norm.eps)  # [out]
    shift = -norm.mean.astype(np.float64) if bias is None else bias.astype(np.float64) - norm.mean
    return Layer(weight.astype(np.float64) * scale[:, None], scale * shift + beta)


def fold_head(weight: np.ndarray, bias: np.ndarray, task: Task, *, divisor: float = 1.0) -> Layer:
    """Return the last layer with its scores divided by `divisor` (temperature · members).

    weight [out, in], bias [out]. A binary head of one logit L gets a row of zeros before it: the scores are (0, L).
    """
    layer = Layer(weight.astype(np.float64) / divisor, bias.astype(np.float64) / divisor)
    if task != "binary" or len(layer.bias) == 2:
        return layer
    zeros = np.zeros((1, layer.weight.shape[1]))
    return Layer(np.concatenate([zeros, layer.weight]), np.concatenate([np.zeros(1), layer.bias]))


def shifted(folded: Folded, shift: np.ndarray) -> Folded:
    """Return the network with `shift` [classes] added to its scores, by the members' last biases; of two, the first stays 0."""
    moved = (shift - shift[0] if folded.output.task == "binary" else shift) / len(folded.members)

    def with_shift(member: Member) -> Member:
        *hidden, last = member.layers
        return Member((*hidden, Layer(last.weight, last.bias + moved)))

    return replace(folded, members=tuple(map(with_shift, folded.members)))


def softmax(scores: np.ndarray) -> np.ndarray:
    """Return the probabilities [rows, classes] float64 of scores [rows, classes]."""
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def predictions(scores: np.ndarray, output: Output) -> np.ndarray:
    """Return float64 probabilities [rows, classes], or in the target's own unit values [rows, 1 + levels] or [rows, targets].

    Behind a value its quantiles follow, in order: sorted, they are never farther from the true ones than before, and do not
    cross (Chernozhukov, Fernández-Val, Galichon 2010).
    """
    if output.is_log:
        return np.asarray(np.exp(np.clip(scores, *output.log_limits)) * output.log_unit)
    if output.task != "regression":
        return softmax(scores)
    values = scores * np.asarray(output.value_std) + np.asarray(output.value_mean)
    if output.targets > 1:
        return np.asarray(values)
    return np.concatenate([values[:, :1], np.sort(values[:, 1:], axis=1)], axis=1)


def outputs_of(scores: np.ndarray, output: Output) -> dict[str, np.ndarray]:
    """Return `predictions` by the names of the graph's outputs."""
    predicted = predictions(scores, output)
    if output.task != "regression":
        return {"probabilities": predicted}
    values, further = np.split(predicted, [output.targets], axis=1)
    return {"value": values, **({"quantiles": further} if further.shape[1] else {})}
