"""Periodic features without a sine: a phase u is reduced to r = u - Round(u) in [-1/2, 1/2], then r (8 - 16 |r|).

This parabola approximates a sine of period 1 to within 0.06, and is continuous in value and slope. Unlike a sine, each
of its nodes is one exactly rounded operation.
"""

from dataclasses import dataclass

import numpy as np

from batchproof.training.preprocessing.numbers.scaling import limits
from batchproof.training.preprocessing.onnx_graph import Graph
from batchproof.training.preprocessing.picking import pick

FREQUENCIES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)  # periods per unit of the scaled value


@dataclass(frozen=True)
class Periodic:
    """The waves of all columns, concatenated."""

    column: np.ndarray  # [waves] int64, which scaled column the wave reads
    frequency: np.ndarray  # [waves] float64, periods per unit of the scaled value
    phase: np.ndarray  # [waves] float64, in periods

    @property
    def bounds(self) -> np.ndarray:
        """Greatest absolute value of each produced column [waves]."""
        return np.ones(len(self.column))

    def emit(self, graph: Graph, scaled: str, columns: int, unit: float = 1.0, height: float = 1.0) -> str:
        """Append the nodes for `scaled` [rows, columns] float64, bounded, of which `unit` is 1; returns [rows, waves] float64.

        They are between -height and height. Unit and height are powers of two where the graph is exact.
        """
        chosen = pick(graph, scaled, columns, self.column, np.zeros(len(self.column)), "wave")
        turned = graph.add("Mul", [chosen, graph.constant("wave_frequency", self.frequency / unit)], "wave_turned")
        turns = graph.add("Add", [turned, graph.constant("wave_phase", self.phase)], "wave_turns")
        rest = graph.add("Sub", [turns, graph.add("Round", [turns], "wave_whole")], "wave_rest")
        steep = graph.add(
            "Mul",
            [graph.add("Abs", [rest], "wave_size"), graph.constant("wave_steepness", 16.0 * height)],
            "wave_steep",
        )
        arch = graph.add("Sub", [graph.constant("wave_height", 8.0 * height), steep], "wave_arch")
        wave = graph.add("Mul", [rest, arch], "wave")
        return graph.add("Clip", [wave, *limits(graph, "wave_bound", -height, height)], "waves")


def fit(columns: np.ndarray, frequencies: tuple[float, ...] = FREQUENCIES) -> Periodic:
    """Give each of these scaled columns [n] int64 a sine-like and a cosine-like wave of every frequency."""
    column = np.repeat(columns.astype(np.int64), 2 * len(frequencies))
    frequency = np.tile(np.repeat(np.asarray(frequencies, np.float64), 2), len(columns))
    phase = np.tile(np.asarray([0.0, 0.25]), len(columns) * len(frequencies))
    return Periodic(column, frequency, phase)
