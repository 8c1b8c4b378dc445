"""weights.safetensors: the folded float64 network, its preprocessing and its activation maxima, to export it again."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save

from batchproof.service.bundle.signature import Task
from batchproof.training.network.fold import Folded, Layer, Member, Output, activations
from batchproof.training.preprocessing.preprocess import Preprocess

PREPROCESS = "preprocess."


@dataclass(frozen=True)
class Weights:
    """All that an exporter needs."""

    preprocess: Preprocess
    folded: Folded
    maxima: tuple[tuple[np.ndarray, ...], ...]  # [member][hidden layer] -> [channels] greatest activations


def maxima_of(
    folded: Folded, pieces: Iterable[tuple[np.ndarray, np.ndarray | None]]
) -> tuple[tuple[np.ndarray, ...], ...]:
    """Return the greatest activation of each hidden channel over pieces of rows: x [rows, width], codes [rows, categorical]."""
    maxima = [_maxima(folded, x, codes) for x, codes in pieces]
    members = zip(*maxima, strict=True)  # pieces of a member: [piece][hidden layer] -> [channels]
    return tuple(tuple(np.max(layer, axis=0) for layer in zip(*member, strict=True)) for member in members)


def serialise(weights: Weights) -> bytes:
    """Return the file's bytes; equal weights give equal bytes."""
    folded = weights.folded
    arrays = {PREPROCESS + name: array for name, array in weights.preprocess.to_arrays().items()}
    arrays["embedded"] = np.asarray(folded.embedded, np.int64)
    arrays["output"] = np.asarray(
        [folded.output.value_mean, folded.output.value_std]
    )  # [2], of several targets [2, targets]
    if folded.output.is_log:
        arrays["log"] = np.asarray(folded.output.log_limits)
    arrays |= {f"embedding.{index}": table for index, table in enumerate(folded.embeddings)}
    for number, member in enumerate(folded.members):
        for depth, layer in enumerate(member.layers):
            arrays |= {f"member.{number}.{depth}.weight": layer.weight, f"member.{number}.{depth}.bias": layer.bias}
        arrays |= {f"maxima.{number}.{depth}": top for depth, top in enumerate(weights.maxima[number])}
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def read(path: Path, task: Task) -> Weights:
    """Read a file that `serialise` made. Raises KeyError with the name of a missing array."""
    arrays = load_file(path)
    preprocess = Preprocess.from_arrays(
        {name.removeprefix(PREPROCESS): array for name, array in arrays.items() if name.startswith(PREPROCESS)}
    )
    embedded = tuple(arrays["embedded"].tolist())
    tables = tuple(arrays[f"embedding.{index}"] for index in range(len(embedded)))
    members = _count(arrays, "member.{}.0.weight")
    networks = tuple(_member(arrays, number) for number in range(members))
    tops = tuple(
        tuple(arrays[f"maxima.{number}.{depth}"] for depth in range(len(networks[number].layers) - 1))
        for number in range(members)
    )
    mean, std = (tuple(each) if isinstance(each, list) else each for each in arrays["output"].tolist())
    return Weights(
        preprocess, Folded(embedded, tables, networks, Output(task, mean, std, is_log="log" in arrays)), tops
    )


def _member(arrays: dict[str, np.ndarray], number: int) -> Member:
    depths = _count(arrays, f"member.{number}.{{}}.weight")
    names = [f"member.{number}.{depth}" for depth in range(depths)]
    return Member(tuple(Layer(arrays[f"{name}.weight"], arrays[f"{name}.bias"]) for name in names))


def _count(arrays: dict[str, np.ndarray], pattern: str) -> int:
    number = 0
    while pattern.format(number) in arrays:
        number += 1
    return number


def _maxima(folded: Folded, x: np.ndarray, codes: np.ndarray | None) -> list[list[np.ndarray]]:
    first = folded.inputs(x, codes)
    return [[a.max(axis=0) for a in activations(member, first)[:-1]] for member in folded.members]
