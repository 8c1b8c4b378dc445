"""Heatmaps as inline SVG: a confusion matrix, and counts over two numbers."""

import math
from collections.abc import Sequence
from html import escape

import numpy as np

from batchproof.training.report.charts.scale import Scale
from batchproof.training.report.charts.svg import BOTTOM, LEFT, RIGHT, TOP, Axes, clipped, frame, svg

NUMBERED = 12  # most classes for which cells show their counts
SHORT = 3  # most characters of a label of a larger matrix


def confusion(title: str, description: str, counts: np.ndarray, labels: Sequence[str]) -> str:
    """Draw counts [true, predicted]: shades are shares of the true class; cells show their counts where these fit."""
    size = len(labels)
    is_small = size <= NUMBERED
    left, top, side = (92, 24, 256 / size) if is_small else (44, 24, 306 / size)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    extent = f'width="{side * size:.1f}" height="{side * size:.1f}"'
    body = [f'<text class="unit" x="{left + side * size / 2:.1f}" y="12" text-anchor="middle">predicted</text>']
    body.append(f'<rect class="ground" x="{left}" y="{top}" {extent}/>')
    for (row, column), value in np.ndenumerate(counts):
        if value or is_small:
            tooltip = f"{labels[row]} predicted as {labels[column]}: {value} rows"
            look = "hit" if row == column else "miss"
            x, y, tone = left + column * side, top + row * side, float(share[row, column])
            body.append(_cell(x, y, side, look, tone, tooltip))
            body.append(_count(x + side / 2, y + side / 2 + 4, tone, int(value)) if is_small else "")
    if is_small or max(map(len, labels)) <= SHORT:
        body += [_label(left - 6, top + (row + 0.5) * side + 4, label) for row, label in enumerate(labels)]
    return svg(title, description, "".join(body), round(top + size * side + 6))


def _cell(x: float, y: float, side: float, look: str, tone: float, tooltip: str) -> str:
    extent = f'width="{side - 1:.1f}" height="{side - 1:.1f}" fill-opacity="{0.06 + 0.84 * tone:.2f}"'
    return f'<rect class="cell {look}" x="{x:.1f}" y="{y:.1f}" {extent}><title>{escape(tooltip)}</title></rect>'


def _count(x: float, y: float, tone: float, value: int) -> str:
    ink = "onfill" if tone > 0.8 else "oncell"
    return f'<text class="{ink}" x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{value}</text>'


def _label(x: float, y: float, text: str) -> str:
    return f'<text class="label" x="{x}" y="{y:.1f}" text-anchor="end">{clipped(text, 13)}</text>'


def density(axes: Axes, counts: np.ndarray, x_edges: np.ndarray, y_edges: np.ndarray) -> str:
    """Draw counts [x bins, y bins] as shaded cells, and the diagonal of equal values."""
    x = Scale(float(x_edges[0]), float(x_edges[-1]), LEFT, RIGHT)
    y = Scale(float(y_edges[0]), float(y_edges[-1]), BOTTOM, TOP)
    most, body = max(1.0, float(counts.max())), [frame(axes, x, y)]
    wide, high = (RIGHT - LEFT) / counts.shape[0], (BOTTOM - TOP) / counts.shape[1]
    for (column, row), value in np.ndenumerate(counts):
        if value:
            tone = 0.12 + 0.88 * math.log1p(float(value)) / math.log1p(most)
            place = f'x="{LEFT + column * wide:.1f}" y="{BOTTOM - (row + 1) * high:.1f}"'
            body.append(
                f'<rect class="cell hit" {place} width="{wide:.1f}" height="{high:.1f}" fill-opacity="{tone:.2f}"/>'
            )
    low, top = max(x.low, y.low), min(x.high, y.high)
    body.append(
        f'<line class="line guide" x1="{x.at(low):.1f}" y1="{y.at(low):.1f}" x2="{x.at(top):.1f}" y2="{y.at(top):.1f}"/>'
    )
    return svg(axes.title, axes.description, "".join(body))
