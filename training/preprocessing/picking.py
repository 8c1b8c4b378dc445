"""Columns of a matrix, each as often as it is needed and with a constant added: what bins and waves begin with.

A Gather copies element by element along the second axis. The product with a matrix that has a single 1 in each column
gives the same values several times as fast, and adds the constants on the way: of the terms of each sum only two are not
zero, so it is rounded once, in whatever order it is added. The matrix has as many rows as there are columns to choose
from, so for many of them the Gather is the cheaper one.
"""

import numpy as np

from batchproof.training.preprocessing.onnx_graph import Graph

MOST_COLUMNS = 64  # that a product chooses from


def pick(
    graph: Graph,
    source: str,
    columns: int,
    chosen: np.ndarray,
    added: np.ndarray,
    name: str,
    factor: np.ndarray | float = 1.0,
) -> str:
    """Append nodes for factor · source[:, chosen] + added; returns [rows, len(chosen)] float64.

    source [rows, columns] float64, finite; chosen [picks] int64; added [picks] float64; factor [picks] float64, or 1 for all
    columns where there are more than MOST_COLUMNS. With another factor than 1 engines may round the product or not.
    """
    if columns > MOST_COLUMNS:
        values = graph.add("Gather", [source, graph.constant(f"{name}_column", chosen)], f"{name}_values", axis=1)
        return graph.add("Add", [values, graph.constant(f"{name}_added", added)], f"{name}_picked")
    ones = np.zeros((columns, len(chosen)))
    ones[chosen, np.arange(len(chosen))] = factor
    operands = [source, graph.constant(f"{name}_pick", ones), graph.constant(f"{name}_added", added)]
    return graph.add("Gemm", operands, f"{name}_picked")
