"""One-hot columns: 1 where a categorical column has the listed code, else 0."""

from dataclasses import dataclass

import numpy as np

from batchproof.training.preprocessing.onnx_graph import Graph, TensorProto


@dataclass(frozen=True)
class OneHot:
    """The codes that get a one-hot column each; every other code encodes as zeros."""

    column: np.ndarray  # [indicators] int64, which categorical column is compared
    code: np.ndarray  # [indicators] int64, the code it is compared with

    @property
    def bounds(self) -> np.ndarray:
        """Greatest absolute value of each produced column [indicators]."""
        return np.ones(len(self.column))

    def emit(self, graph: Graph, categorical: str) -> str:
        """Append the nodes for `categorical` [rows, columns] int64; returns [rows, indicators] float64.

        A comparison, not a Gather from an identity table: three nodes for all columns, and no code is out of range.
        """
        compared = graph.add(
            "Gather", [categorical, graph.constant("onehot_column", self.column)], "onehot_codes", axis=1
        )
        equal = graph.add("Equal", [compared, graph.constant("onehot_code", self.code)], "onehot_equal")
        return graph.add("Cast", [equal], "onehot", to=TensorProto.DOUBLE)


def fit(categorical: np.ndarray, columns: list[int]) -> OneHot:
    """List the codes that occur in `columns` of the training rows `categorical` [rows, columns] int64."""
    codes = [(index, code) for index in columns for code in np.unique(categorical[:, index])]
    pairs = np.asarray(codes, np.int64).reshape(-1, 2)
    return OneHot(pairs[:, 0].copy(), pairs[:, 1].copy())
