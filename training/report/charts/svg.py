"""Charts as inline SVG: lines, bars, intervals, columns, dots.

Colours are classes of style.css, so that they follow the reader's light or dark mode. All text from data is escaped.
Every drawing has a description for screen readers.
"""

from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from batchproof.training.report.charts.scale import TICKS, Scale, around, number

WIDTH, HEIGHT = 360, 220  # the width of a phone: text is readable there, and grows with the drawing
LEFT, RIGHT, TOP, BOTTOM = 60, 350, 10, 182  # of the plot
ROW = 22  # height of a bar with its label
LABEL_CHARACTERS = 20
CHARACTER = 6.5  # its approximate width
SIGNS = {  # of a point, by look: distinct without colour too
    "a": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0",
    "b": "M-3.5-3.5h7v7h-7z",
    "c": "M0-4.5L4.5 3.5h-9z",
    "d": "M0-5L5 0L0 5L-5 0z",
}


class Line(NamedTuple):
    """One line of a chart; `look` is its class: a, b, c, d or guide."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    look: str = "a"
    is_dotted: bool = False  # whether points are marked


class Axes(NamedTuple):
    """Title, description and axis labels of a chart."""

    title: str
    description: str
    x: str
    y: str
    ticks: int = TICKS  # approximate number on x
    text: Callable[[float], str] = number  # of a tick on x
    is_whole: bool = False  # whether x has whole numbers only


def lines(
    axes: Axes,
    drawn: Sequence[Line],
    *,
    unit_square: bool = False,
    mark: float | None = None,
) -> str:
    """Draw lines over common axes; `mark` is a value on x to highlight."""
    if unit_square:
        x, y = Scale(0, 1, LEFT, RIGHT), Scale(0, 1, BOTTOM, TOP)
    else:
        x = around([value for line in drawn for value in line.x], LEFT, RIGHT, margin=0.02)
        y = around([value for line in drawn for value in line.y], BOTTOM, TOP)
    body = [frame(axes, x, y)]
    if mark is not None:
        body.append(f'<line class="mark" x1="{x.at(mark):.1f}" x2="{x.at(mark):.1f}" y1="{TOP}" y2="{BOTTOM}"/>')
    for line in drawn:
        points = [(x.at(a), y.at(b)) for a, b in zip(line.x, line.y, strict=True)]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        body.append(f'<polyline class="line {line.look}" points="{path}"/>')
        if line.is_dotted:
            body += [f'<circle class="dot {line.look}" cx="{a:.1f}" cy="{b:.1f}" r="3"/>' for a, b in points]
    return svg(axes.title, axes.description, "".join(body)) + legend([(line.name, line.look) for line in drawn])


def bars(title: str, description: str, rows: Sequence[tuple[str, float, float]], unit: str) -> str:
    """Draw a bar for each row (label, value, spread), with the spread as a whisker."""
    left, top = gutter([label for label, _, _ in rows]), 6
    x = around([value + spread for _, value, spread in rows], left, 316, margin=0.0, zero=True)
    zero, body = x.at(0.0), []
    for place, (label, value, spread) in enumerate(rows):
        y = top + place * ROW
        end = x.at(value)
        body.append(f'<text class="label" x="{left - 8}" y="{y + 14}" text-anchor="end">{clipped(label)}</text>')
        body.append(
            f'<rect class="bar" x="{min(zero, end):.1f}" y="{y + 4}" width="{max(abs(end - zero), 0.5):.1f}" height="13" rx="2"/>'
        )
        if spread > 0:
            low, high = x.at(value - spread), x.at(value + spread)
            body.append(
                f'<path class="whisker" d="M{low:.1f} {y + 10.5}H{high:.1f}M{low:.1f} {y + 7}v7M{high:.1f} {y + 7}v7"/>'
            )
        body.append(f'<text x="{max(end, x.at(value + spread)) + 5:.1f}" y="{y + 14}">{number(value)}</text>')
    height = top + len(rows) * ROW + 20
    body.append(f'<text class="unit" x="{left}" y="{height - 4}">{escape(unit)}</text>')
    return svg(title, description, "".join(body), height)


def columns(axes: Axes, heights: np.ndarray, edges: np.ndarray) -> str:
    """Draw a histogram: `heights` [bins] between `edges` [bins + 1]."""
    x = Scale(float(edges[0]), float(edges[-1]), LEFT, RIGHT)
    y = around(heights.tolist(), BOTTOM, TOP, zero=True)
    body = [frame(axes, x, y)]
    for height, low, high in zip(heights.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        a, b, top = x.at(low), x.at(high), y.at(height)
        body.append(
            f'<rect class="bar" x="{a:.1f}" y="{top:.1f}" width="{max(b - a - 1, 0.5):.1f}" height="{BOTTOM - top:.1f}"/>'
        )
    return svg(axes.title, axes.description, "".join(body))


def dots(axes: Axes, x_values: Sequence[float], y_values: Sequence[float], cross: tuple[float, float]) -> str:
    """Draw points, and thin lines through `cross`, the ideal place of all points."""
    x = around([*x_values, cross[0]], LEFT, RIGHT)
    y = around([*y_values, cross[1]], BOTTOM, TOP)
    body = [frame(axes, x, y)]
    body.append(
        f'<path class="line guide" d="M{x.at(cross[0]):.1f} {TOP}V{BOTTOM}M{LEFT} {y.at(cross[1]):.1f}H{RIGHT}"/>'
    )
    body += [
        f'<circle class="point" cx="{x.at(a):.1f}" cy="{y.at(b):.1f}" r="2.2"/>'
        for a, b in zip(x_values, y_values, strict=True)
    ]
    return svg(axes.title, axes.description, "".join(body))


def intervals(title: str, description: str, rows: Sequence[tuple[str, float, float, float]]) -> str:
    """Draw a dot and its interval for each row (label, value, low, high), the first row in the main colour."""
    left, top, right = 86, 4, 252  # drawn small: three are next to each other
    x = around([value for _, *values in rows for value in values], left, right, margin=0.05)
    body = []
    for tick in x.ticks(4):
        body.append(
            f'<line class="grid" x1="{x.at(tick):.1f}" x2="{x.at(tick):.1f}" y1="{top}" y2="{top + len(rows) * 26}"/>'
        )
        body.append(label_below(x.at(tick), top + len(rows) * 26 + 14, number(tick)))
    for place, (label, value, low, high) in enumerate(rows):
        y, look = top + place * 26 + 13, "a" if place == 0 else "guide"
        body.append(f'<text class="label" x="{left - 8}" y="{y + 4}" text-anchor="end">{clipped(label)}</text>')
        body.append(
            f'<path class="span {look}" d="M{x.at(low):.1f} {y}H{x.at(high):.1f}"/><circle class="dot {look}" cx="{x.at(value):.1f}" cy="{y}" r="4.5"/>'
        )
    return svg(title, description, "".join(body), top + len(rows) * 26 + 20, 264)


def svg(title: str, description: str, body: str, height: int = HEIGHT, width: int = WIDTH) -> str:
    """Wrap a drawing, with a description for screen readers."""
    label = escape(f"{title}. {description}")
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{body}</svg>'


def legend(entries: Sequence[tuple[str, str]], *, with_signs: bool = False) -> str:
    """Return a legend with a line or a sign for each entry; nothing for a single entry."""
    if len(entries) < 2:
        return ""
    items = ""
    for name, look in entries:
        drawn = sign(look, 11, 5) if with_signs else f'<path class="line {look}" d="M1 5H21"/>'
        items += f'<li><svg class="swatch" viewBox="0 0 22 10" aria-hidden="true">{drawn}</svg>{escape(name)}</li>'
    return f'<ul class="legend">{items}</ul>'


def sign(look: str, x: float, y: float) -> str:
    """Return a point in the shape and colour of its look."""
    return f'<path class="dot {look}" transform="translate({x:.1f} {y:.1f})" d="{SIGNS[look]}"/>'


def label_below(x: float, y: float, text: str) -> str:
    """Return the label of a tick on x."""
    return f'<text class="tick" x="{x:.1f}" y="{y}" text-anchor="middle">{escape(text)}</text>'


def gutter(labels: Sequence[str]) -> float:
    """Return where a chart with these labels on its left begins."""
    return 14 + CHARACTER * min(LABEL_CHARACTERS, max(map(len, labels), default=0))


def clipped(text: str, most: int = LABEL_CHARACTERS) -> str:
    """Return an escaped label, shortened to fit; a tooltip shows all of it."""
    if len(text) <= most:
        return escape(text)
    return f"{escape(text[: most - 1])}…<title>{escape(text)}</title>"


def frame(axes: Axes, x: Scale, y: Scale) -> str:
    """Return grid, ticks and labels of both axes."""
    body = []
    for tick in y.ticks():
        place = f"{y.at(tick):.1f}"
        body.append(f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{place}" y2="{place}"/>')
        body.append(
            f'<text class="tick" x="{LEFT - 6}" y="{float(place) + 3.5:.1f}" text-anchor="end">{number(tick)}</text>'
        )
    ticks = [tick for tick in x.ticks(axes.ticks) if not axes.is_whole or float(tick).is_integer()]
    body += [label_below(x.at(tick), BOTTOM + 15, axes.text(tick)) for tick in ticks]
    body.append(f'<line class="axis" x1="{LEFT}" x2="{RIGHT}" y1="{BOTTOM}" y2="{BOTTOM}"/>')
    body.append(
        f'<text class="unit" x="{(LEFT + RIGHT) / 2}" y="{BOTTOM + 32}" text-anchor="middle">{clipped(axes.x, 48)}</text>'
    )
    middle = (TOP + BOTTOM) / 2
    body.append(
        f'<text class="unit" x="9" y="{middle}" text-anchor="middle" transform="rotate(-90 9 {middle})">{clipped(axes.y, 34)}</text>'
    )
    return "".join(body)
