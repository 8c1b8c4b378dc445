"""Categorical columns by one table: all codes are looked up at once, WIDTH values at a time.

A column's values for each of its codes are cut into chunks of WIDTH, the last one filled up with zeros, and all chunks of all
columns stand below one another in the table. A chunk's row is its base plus the column's code, so that the codes, their bases
and the table are one node each, however many columns there are. A one-hot column is looked up in an identity matrix.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from batchproof.training.preprocessing.categories.onehot import OneHot
from batchproof.training.preprocessing.onnx_graph import Graph

WIDTH = 2  # wider chunks leave more zeros in the first layer, narrower ones are more look-ups
# Of a table whose columns are all as tall as the tallest; otherwise a node more limits each column's codes.
MOST_ENTRIES = 2**16
MOST_IDENTITY = 2**12  # entries of the identity matrices of one-hot columns that are looked up


class Lookup(NamedTuple):
    """What `emit` appended."""

    name: str  # [rows, columns] float64
    place: np.ndarray  # [columns] int64, which of all tables' columns, side by side, each one is; -1: zeros


def identities(onehot: OneHot) -> list[tuple[int, np.ndarray]]:
    """Return (column, table [codes, indicators]) of each one-hot column; codes beyond the last listed one have zeros."""
    tables = []
    for column in np.unique(onehot.column):
        codes = onehot.code[onehot.column == column]
        table = np.zeros((codes.max() + 2, len(codes)))
        table[codes, np.arange(len(codes))] = 1.0
        tables.append((int(column), table))
    return tables


def emit(graph: Graph, categorical: str, columns: int, tables: Sequence[tuple[int, np.ndarray]]) -> Lookup:
    """Append nodes that look `categorical` [rows, columns] int64 up in `tables`, each (column, [codes, values] float64).

    A code beyond the end of its table is its last one, and a code below 0 is 0.
    """
    if len(tables) == 1:
        return _emit_one(graph, categorical, *tables[0])
    tallest = max(len(table) for _, table in tables)
    chunks = [(column, chunk) for column, table in tables for chunk in _chunks(table)]
    is_even = tallest * WIDTH * len(chunks) <= MOST_ENTRIES
    code = _limited(graph, categorical, tallest)
    if is_even:
        chunks = [(column, np.pad(chunk, ((0, tallest - len(chunk)), (0, 0)), "edge")) for column, chunk in chunks]
    else:
        most = np.zeros(columns, np.int64)
        most[[column for column, _ in tables]] = [len(table) - 1 for _, table in tables]
        code = graph.add("Min", [code, graph.constant("code_last", most)], "code_listed")
    chosen = graph.constant("chunk_column", np.array([column for column, _ in chunks], np.int64))
    base = np.cumsum([0, *(len(chunk) for _, chunk in chunks[:-1])], dtype=np.int64)
    codes = graph.add("Gather", [code, chosen], "chunk_code", axis=1)
    rows = graph.add("Add", [codes, graph.constant("chunk_base", base)], "chunk_row")
    stored = graph.constant("category_table", np.concatenate([chunk for _, chunk in chunks]))
    values = graph.add("Gather", [stored, rows], "chunks", axis=0)  # [rows, chunks, WIDTH]
    shape = graph.constant("category_shape", np.array([-1, WIDTH * len(chunks)], np.int64))
    return Lookup(graph.add("Reshape", [values, shape], "categories"), _places([table for _, table in tables]))


def _emit_one(graph: Graph, categorical: str, column: int, table: np.ndarray) -> Lookup:
    code = graph.add(
        "Gather", [categorical, graph.constant("code_column", np.asarray(column, np.int64))], "code", axis=1
    )  # [rows]
    listed = _limited(graph, code, len(table))
    stored = graph.constant("category_table", table)
    return Lookup(graph.add("Gather", [stored, listed], "categories", axis=0), np.arange(table.shape[1]))


def _limited(graph: Graph, code: str, count: int) -> str:
    ends = [
        graph.constant(f"code_{name}", np.asarray(end, np.int64)) for name, end in (("least", 0), ("most", count - 1))
    ]
    return graph.add("Clip", [code, *ends], "code_near")


def _chunks(table: np.ndarray) -> list[np.ndarray]:
    filled = np.pad(table, ((0, 0), (0, -table.shape[1] % WIDTH)))
    return np.split(filled, filled.shape[1] // WIDTH, axis=1)


def _places(tables: Sequence[np.ndarray]) -> np.ndarray:
    places, start = [], 0
    for table in tables:
        own = np.arange(start, start + table.shape[1])
        places.append(np.pad(own, (0, -len(own) % WIDTH), constant_values=-1))
        start += table.shape[1]
    return np.concatenate(places)
