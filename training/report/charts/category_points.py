"""Mean predictions by category as inline SVG points."""

from collections.abc import Sequence

import numpy as np

from batchproof.training.report.charts.scale import around, number
from batchproof.training.report.charts.svg import ROW, SIGNS, Axes, clipped, gutter, label_below, legend, sign, svg

TOP, RIGHT = 4, 310  # right of it there is room for a number


def points(axes: Axes, labels: Sequence[str], answers: np.ndarray, names: Sequence[str]) -> str:
    """Draw `answers` [labels, names]: a row for each label, a sign for each name; numbers too for a single name."""
    left, bottom = gutter(labels), TOP + len(labels) * ROW
    x, looks = around(answers.ravel().tolist(), left, RIGHT, margin=0.05), list(SIGNS)[: len(names)]
    body = []
    for tick in x.ticks():
        body.append(f'<line class="grid" x1="{x.at(tick):.1f}" x2="{x.at(tick):.1f}" y1="{TOP}" y2="{bottom}"/>')
        body.append(label_below(x.at(tick), bottom + 14, number(tick)))
    for place, (label, values) in enumerate(zip(labels, answers.tolist(), strict=True)):
        y = TOP + (place + 0.5) * ROW
        body.append(f'<text class="label" x="{left - 8}" y="{y + 4}" text-anchor="end">{clipped(label)}</text>')
        body += [sign(look, x.at(value), y) for look, value in zip(looks, values, strict=True)]
        if len(names) == 1:
            body.append(f'<text x="{x.at(values[0]) + 9:.1f}" y="{y + 4}">{number(values[0])}</text>')
    middle = (left + RIGHT) / 2
    body.append(f'<text class="unit" x="{middle}" y="{bottom + 31}" text-anchor="middle">{clipped(axes.x, 48)}</text>')
    drawing = svg(axes.title, axes.description, "".join(body), bottom + 38)
    return drawing + legend(list(zip(names, looks, strict=True)), with_signs=True)
