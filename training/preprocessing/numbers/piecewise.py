"""Piecewise-linear encoding: a column for each bin, rising from 0 to HEIGHT as the value crosses it.

Gorishniy, Rubachev, Babenko 2022 (On Embeddings for Numerical Features), with both outer bins closed, so that every
share of a bin is in [0, 1]; beyond the outermost edges the scaled value still distinguishes rows.

Shares are scaled to HEIGHT: the scale of a column sets how fast its weights act in the first layer, and dozens of
columns at full height would let bins fit noise before the scaled value is used.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from batchproof.training.preprocessing.numbers.scaling import limits
from batchproof.training.preprocessing.onnx_graph import Graph
from batchproof.training.preprocessing.picking import MOST_COLUMNS, pick

HEIGHT = 0.3  # of a full bin
FAR = 2.0**1000  # what infinities become where bins reach far: times 0 they would be NaN
# Of its own width that a bin may be away from 0 where a product takes both: 2^-32 of the height is lost.
MOST_WIDTHS = 2.0**20
TREE_ROWS = 50_000  # most rows that a tree is grown on: more rows give the same edges to within noise


@dataclass(frozen=True)
class Piecewise:
    """The bins of all columns, concatenated."""

    column: np.ndarray  # [bins] int64, which numeric column the bin reads
    low: np.ndarray  # [bins] float64, lower edge
    slope: np.ndarray  # [bins] float64, 1 / (upper edge - lower edge)

    @property
    def bounds(self) -> np.ndarray:
        """Greatest absolute value of each produced column [bins]."""
        return np.full(len(self.column), HEIGHT)

    def emit(self, graph: Graph, finite: str, columns: int, height: float = HEIGHT, *, is_exact: bool = True) -> str:
        """Append the nodes for `finite` [rows, columns] float64; returns [rows, bins] float64 from 0 to `height`.

        Where it need not be exact, one product subtracts and multiplies: engines differ in whether that is rounded once or twice.
        """
        slope = height * self.slope
        if not is_exact and columns <= MOST_COLUMNS and bool((np.abs(self.low) * self.slope <= MOST_WIDTHS).all()):
            share = pick(graph, finite, columns, self.column, -self.low * slope, "bin", slope)
        else:
            above = pick(graph, finite, columns, self.column, -self.low, "bin")
            share = graph.add("Mul", [above, graph.constant("bin_slope", slope)], "bin_share")
        return graph.add("Clip", [share, *limits(graph, "bin_bound", 0.0, height)], "binned")


def fit(numeric: np.ndarray, target: np.ndarray, *, classes: bool, bins: int, edges: str) -> Piecewise:
    """Place at most `bins` bins in each column, by the rule `edges` ("quantile", "distinct" or "tree").

    numeric [rows, columns] float64 with NaN for missing, target [rows] codes of classes or float64 values.
    """
    columns, lows, slopes = [], [], []
    for index in range(numeric.shape[1]):
        present = ~np.isnan(numeric[:, index])
        placed = column_edges(numeric[present, index], target[present], classes=classes, bins=bins, edges=edges)
        columns.append(np.full(len(placed) - 1, index, np.int64))
        lows.append(placed[:-1])
        slopes.append(1.0 / np.diff(placed))
    return Piecewise(np.concatenate(columns), np.concatenate(lows), np.concatenate(slopes))


def column_edges(values: np.ndarray, target: np.ndarray, *, classes: bool, bins: int, edges: str) -> np.ndarray:
    """Return the strictly increasing edges of one column; fewer than two where it is constant."""
    distinct = np.unique(values)
    if len(distinct) <= bins + 1:
        return separated(distinct)
    if edges == "tree":
        return separated(tree_edges(values, target, bins, classes=classes))
    return separated({"quantile": quantile_edges, "distinct": distinct_edges}[edges](values, bins))


def quantile_edges(values: np.ndarray, bins: int) -> np.ndarray:
    """Return edges at equal shares of the rows; `separated` merges ties."""
    return np.asarray(np.quantile(values, np.linspace(0.0, 1.0, bins + 1)))


def distinct_edges(values: np.ndarray, bins: int) -> np.ndarray:
    """Return edges at each value that has a bin's share of the rows, then at equal shares of the other rows.

    If a column is mostly zero, nearly all quantiles of its rows are equal; the quantiles of the rows without such spikes
    are not. This is done twice, since the other rows may have spikes too.
    """
    spikes, rest = [], values
    for _ in range(2):
        distinct, counts = np.unique(rest, return_counts=True)
        heavy = distinct[counts * bins > len(rest)]
        spikes.append(heavy)
        rest = rest[~np.isin(rest, heavy)]
    ends = np.asarray([values.min(), values.max()])
    remaining = max(2, bins + 1 - sum(map(len, spikes)))
    shared = np.quantile(rest, np.linspace(0.0, 1.0, remaining)) if len(rest) else ends
    return np.concatenate([*spikes, shared, ends])


def tree_edges(values: np.ndarray, target: np.ndarray, bins: int, *, classes: bool) -> np.ndarray:
    """Return edges where a decision tree on this single column splits the target."""
    step = max(1, len(values) // TREE_ROWS)
    values, target = values[::step], target[::step]
    grower = DecisionTreeClassifier if classes else DecisionTreeRegressor
    leaf = max(4, min(64, len(values) // 100))
    tree = grower(max_leaf_nodes=bins, min_samples_leaf=leaf, random_state=0).fit(values[:, None], target)
    inner = tree.tree_.threshold[tree.tree_.feature == 0]
    return np.concatenate([[values.min()], inner, [values.max()]])


def separated(edges: np.ndarray) -> np.ndarray:
    """Sort the edges, and drop those too close to the one before for a finite slope."""
    edges = np.unique(edges.astype(np.float64))
    if len(edges) < 2:
        return edges[:1]
    least = max((edges[-1] - edges[0]) * 1e-9, 1e-300)
    return np.asarray(edges[np.concatenate([[True], np.diff(edges) > least])])
