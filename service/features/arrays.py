"""The graph's inputs and outputs as arrays."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from batchproof.service.bundle.signature import Signature

Outputs: TypeAlias = Mapping[str, np.ndarray]  # the graph's outputs by name, each [rows, width]


class Arrays(NamedTuple):
    """The graph's inputs; a kind of feature that the signature has not is None."""

    numeric: np.ndarray | None  # [rows, numeric and date features] float64, NaN where missing
    categorical: np.ndarray | None  # [rows, categorical features] int64 codes

    def take(self, rows: np.ndarray | slice) -> "Arrays":
        """Return the same inputs of other rows, by number [n] int64 or as a slice."""
        return Arrays(*(None if array is None else array[rows] for array in self))


class ArrayBounds(NamedTuple):
    """How wide a model's inputs are, and which codes they may hold: others would end the run of every row in the batch."""

    numbers: int  # numeric and date features
    code_counts: np.ndarray  # [categorical features] int64; a feature's codes are below its count

    @classmethod
    def of(cls, signature: "Signature") -> "ArrayBounds":
        """Return the bounds of a model's inputs."""
        counts = [feature.code_count for feature in signature.inputs if feature.kind == "categorical"]
        return cls(len(signature.inputs) - len(counts), np.array(counts, np.int64))

    @property
    def widths(self) -> tuple[int, int]:
        """Return the features of each input."""
        return self.numbers, len(self.code_counts)

    def admits(self, codes: np.ndarray | None) -> bool:
        """Return whether all `codes` [rows, categorical features] are the model's."""
        return codes is None or not ((codes < 0).any() or (codes >= self.code_counts).any())


def numbers_of(outputs: Outputs) -> np.ndarray:
    """Return what answers show, float32: probabilities [rows, classes], the value with its quantiles [rows, 1 + levels], or [rows, targets]."""
    if "quantiles" in outputs:
        return np.concatenate([outputs["value"], outputs["quantiles"]], axis=1)
    return outputs["value"] if "value" in outputs else outputs["probabilities"]


def split(signature: "Signature", table: np.ndarray) -> Arrays:
    """Part one column a feature, [rows, features] float64 with codes among them, into the graph's inputs."""
    is_code = np.array([feature.kind == "categorical" for feature in signature.inputs])
    numeric = np.ascontiguousarray(table[:, ~is_code]) if not is_code.all() else None
    return Arrays(numeric, table[:, is_code].astype(np.int64, order="C") if is_code.any() else None)
