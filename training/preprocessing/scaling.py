"""Robust scaling and a smooth clip, z / sqrt(1 + (z / b)^2), which bounds every outlier.

Columns that must keep their order bit for bit are clipped by z / (1 + |z| / b) instead: see `ordered`.
"""

from dataclasses import dataclass

import numpy as np

from batchproof.training.preprocessing.onnx_graph import Graph
from batchproof.training.preprocessing.ordered import emit_softsign

BOUND = 3.0  # b: the scaled value is within [-b, b]
BLOCK_COLUMNS = 2  # measured together, or one more: bounds the copies that quantiles make
FAR = 1e6  # hard limit before squaring: a square that overflows would turn the value into 0


@dataclass(frozen=True)
class Scaling:
    """Center and inverse spread of each numeric column."""

    center: np.ndarray  # [columns] float64
    scale: np.ndarray  # [columns] float64, 1 / spread, finite and above 0

    @property
    def bounds(self) -> np.ndarray:
        """Greatest absolute value of each produced column [columns]."""
        return np.full(len(self.center), BOUND)

    def emit(self, graph: Graph, filled: str, ordered: np.ndarray) -> str:
        """Append the nodes for `filled` [rows, columns] float64 without NaN; returns [rows, columns] float64.

        `ordered` [n] int64 are the columns that keep their order bit for bit.
        """
        shifted = graph.add("Sub", [filled, graph.constant("scaling_center", self.center)], "scaling_shifted")
        z = graph.add("Mul", [shifted, graph.constant("scaling_scale", self.scale)], "scaling_scaled")
        if not len(ordered):
            return self._smooth(graph, z)
        softsign = emit_softsign(graph, z, BOUND, FAR)
        if len(ordered) == len(self.center):
            return softsign
        is_ordered = np.isin(np.arange(len(self.center)), ordered)[None, :]
        parts = [graph.constant("is_ordered", is_ordered), softsign, self._smooth(graph, z)]
        return graph.add("Where", parts, "scaled")

    def _smooth(self, graph: Graph, z: str) -> str:
        near = graph.add("Clip", [z, *limits(graph, "scaling_far", -FAR, FAR)], "scaling_near")
        ratio = graph.add("Mul", [near, graph.constant("scaling_inverse_bound", 1.0 / BOUND)], "scaling_ratio")
        square = graph.add("Mul", [ratio, ratio], "scaling_square")
        above_one = graph.add("Add", [square, graph.constant("scaling_one", 1.0)], "scaling_above_one")
        root = graph.add("Sqrt", [above_one], "scaling_root")
        smooth = graph.add("Div", [near, root], "scaling_smooth")
        return graph.add("Clip", [smooth, *limits(graph, "scaling_bound", -BOUND, BOUND)], "scaled")


def limits(graph: Graph, name: str, low: float, high: float) -> tuple[str, str]:
    """Store the two float64 limits of a Clip node and return their names."""
    return graph.constant(f"{name}_low", low), graph.constant(f"{name}_high", high)


def fit(numeric: np.ndarray) -> Scaling:
    """Fit median and interquartile range of `numeric` [rows, columns] float64, ignoring NaN.

    The spread is the interquartile range over 1.349, which for a normal distribution is its standard deviation. Where
    the quartiles coincide it is the standard deviation, and 1 where the column is constant.
    """
    blocks = np.array_split(np.arange(numeric.shape[1]), max(1, numeric.shape[1] // BLOCK_COLUMNS))
    fitted = [_fit(numeric[:, block[0] : block[-1] + 1]) for block in blocks]
    return Scaling(np.concatenate([each.center for each in fitted]), np.concatenate([each.scale for each in fitted]))


def _fit(numeric: np.ndarray) -> Scaling:
    # Squares of values beyond 1e100 overflow, those of tiny ones underflow: such a column is scaled by a power of two.
    greatest = np.nanmax(np.abs(numeric), axis=0)
    exponent = np.where((greatest > 1e100) | (greatest < 1e-100), np.frexp(greatest)[1], 0)
    measured = np.ldexp(numeric, -exponent)
    low, center, high = np.nanquantile(measured, [0.25, 0.5, 0.75], axis=0)
    spread = np.where(high > low, (high - low) / 1.349, np.nanstd(measured, axis=0))
    usable = np.isfinite(spread) & (spread > np.abs(center) * 1e-15)
    usable &= np.ldexp(spread, np.minimum(exponent, 0)) > 1e-300
    inverse = np.ldexp(1.0 / np.where(usable, spread, 1.0), np.where(usable, -exponent, 0))
    return Scaling(np.ldexp(center, exponent).astype(np.float64), inverse)
