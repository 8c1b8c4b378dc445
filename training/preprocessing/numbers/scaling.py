"""Robust scaling and a smooth clip, z / sqrt(1 + (z / b)^2), which bounds every outlier.

With the distance d from the center, z = d · scale and the reach r = b / scale, this is b · d / sqrt(d^2 + r^2): five nodes, and
none of them multiplies by a constant. Columns that must keep their order bit for bit are clipped by z / (1 + |z| / b)
instead: see `ordered`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from batchproof.training.preprocessing.onnx_graph import Graph
from batchproof.training.preprocessing.ordered import emit_softsign

BOUND = 3.0  # b: the scaled value is within [-b, b]
BLOCK_COLUMNS = 2  # measured together, or one more: bounds the copies that quantiles make
FAR = 2.0**500  # hard limit of a distance before squaring: a square that overflows would turn the value into 0
FLAT = 1e6  # the softsign is flat beyond
# Squares of a reach between these scales are normal float32 numbers: engines compare a constant of one column in float32 with 0.
LEAST_SCALE, MOST_SCALE = 2.0**-60, 2.0**60


class Multiple(NamedTuple):
    """Which multiple of the scaled values nodes compute, and of what."""

    height: float = BOUND  # the greatest result, in place of b
    # Whether all columns are usual and no value is beyond FAR, so that distances can be squared as they are.
    is_near: bool = True
    is_limited: bool = True  # whether rounding must not take a result beyond the height, by 2^-52 of it


@dataclass(frozen=True)
class Scaling:
    """Center and inverse spread of each numeric column."""

    center: np.ndarray  # [columns] float64
    scale: np.ndarray  # [columns] float64, 1 / spread, finite and above 0

    @property
    def bounds(self) -> np.ndarray:
        """Greatest absolute value of each produced column [columns]."""
        return np.full(len(self.center), BOUND)

    @property
    def is_usual(self) -> bool:
        """Whether distances from all centers can be squared as they are, up to FAR."""
        usual = (self.scale >= LEAST_SCALE) & (self.scale <= MOST_SCALE) & (np.abs(self.center) <= FAR)
        return bool(usual.all())

    def emit(self, graph: Graph, finite: str, ordered: np.ndarray, multiple: Multiple) -> str:
        """Append the nodes for `finite` [rows, columns] float64; returns a multiple of the scaled values [rows, columns] float64.

        `ordered` [n] int64 are the columns that keep their order bit for bit.
        """
        away = graph.add("Sub", [finite, graph.constant("scaling_center", self.center)], "scaling_away")
        if not len(ordered):
            return self._smooth(graph, away, multiple)
        z = graph.add("Mul", [away, graph.constant("scaling_scale", self.scale)], "scaling_scaled")
        scaled = emit_softsign(graph, z, BOUND, FLAT)
        if len(ordered) < len(self.center):
            is_ordered = np.isin(np.arange(len(self.center)), ordered)[None, :]
            smooth = self._smooth(graph, away, multiple._replace(height=BOUND))
            scaled = graph.add("Where", [graph.constant("is_ordered", is_ordered), scaled, smooth], "scaled")
        if multiple.height == BOUND:
            return scaled
        return graph.add("Mul", [scaled, graph.constant("ordered_height", multiple.height / BOUND)], "scaled_high")

    def _smooth(self, graph: Graph, away: str, multiple: Multiple) -> str:
        if multiple.is_near:
            reach = BOUND / self.scale
        else:
            z = graph.add("Mul", [away, graph.constant("scaling_scale", self.scale)], "scaling_scaled")
            away = graph.add("Clip", [z, *limits(graph, "scaling_far", -FAR, FAR)], "scaling_near")
            reach = np.full(len(self.scale), BOUND)
        height = multiple.height
        square = graph.add("Mul", [away, away], "scaling_square")
        summed = graph.add("Add", [square, graph.constant("scaling_reach", reach**2)], "scaling_sum")
        share = graph.add("Div", [away, graph.add("Sqrt", [summed], "scaling_root")], "scaling_share")
        if height != 1.0:
            share = graph.add("Mul", [share, graph.constant("scaling_height", height)], "scaling_smooth")
        if not multiple.is_limited:
            return share
        return graph.add("Clip", [share, *limits(graph, "scaling_bound", -height, height)], "scaled")


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
