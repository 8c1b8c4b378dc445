"""Pictures without a plotting library: bars and time series as SVG text."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

OURS, OTHERS, INK, GRID = "#0b6e4f", "#9aa5b1", "#1f2933", "#e4e7eb"
COLOURS = ("#0b6e4f", "#c05621", "#4c6ef5", "#9aa5b1")
WIDTH, LABELS, BAR = 860, 250, 18  # pixels
PLOT_HEIGHT, MARGIN = 150, 46


@dataclass(frozen=True)
class Bar:
    """One value, None where there is none."""

    label: str
    value: float | None
    ours: bool


@dataclass(frozen=True)
class Panel:
    """Bars of one unit."""

    title: str
    bars: Sequence[Bar]


@dataclass(frozen=True)
class Series:
    """One line of a plot."""

    label: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Plot:
    """Lines over one time axis."""

    title: str
    series: Sequence[Series]


def bars(title: str, panels: Sequence[Panel]) -> str:
    """Return an SVG of horizontal bars, each panel scaled to its own greatest value."""
    parts, y = [_text(12, 24, title, size=16, bold=True)], 40
    for panel in panels:
        parts.append(_text(12, y + 16, panel.title, bold=True))
        y += 24
        greatest = max((bar.value or 0 for bar in panel.bars), default=0) or 1
        for bar in panel.bars:
            parts += _bar(bar, y, greatest)
            y += BAR + 4
        y += 10
    return _svg(y, parts)


def _bar(bar: Bar, y: int, greatest: float) -> list[str]:
    room = WIDTH - LABELS - 110
    length = 0 if bar.value is None else room * bar.value / greatest
    return [
        _text(LABELS - 8, y + 13, bar.label, anchor="end"),
        f'<rect x="{LABELS}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{OURS if bar.ours else OTHERS}"/>',
        _text(LABELS + length + 6, y + 13, "no figure" if bar.value is None else _number(bar.value)),
    ]


def plots(title: str, charts: Sequence[Plot], x_title: str) -> str:
    """Return an SVG of line plots below one another, with one x axis for all."""
    xs = [x for chart in charts for series in chart.series for x in series.x]
    span = (min(xs), max(xs)) if xs else (0.0, 1.0)
    parts, y = [_text(12, 24, title, size=16, bold=True)], 40
    for chart in charts:
        parts += _plot(chart, y, span)
        y += PLOT_HEIGHT + 54
    parts.append(_text(WIDTH / 2, y - 4, x_title, anchor="middle"))
    return _svg(y + 8, parts)


def _plot(chart: Plot, top: int, span: tuple[float, float]) -> list[str]:
    greatest = max((y for series in chart.series for y in series.y), default=0) or 1
    bottom, width = top + 24 + PLOT_HEIGHT, WIDTH - 2 * MARGIN - 20
    parts = [_text(12, top + 14, chart.title, bold=True)]
    for share in (0, 0.5, 1):
        y = bottom - share * PLOT_HEIGHT
        parts.append(f'<line x1="{MARGIN + 20}" x2="{MARGIN + 20 + width}" y1="{y}" y2="{y}" stroke="{GRID}"/>')
        parts.append(_text(MARGIN + 14, y + 4, _number(share * greatest), anchor="end"))
    for second in _ticks(span):
        x = MARGIN + 20 + width * (second - span[0]) / (span[1] - span[0])
        parts.append(_text(x, bottom + 16, _number(second), anchor="middle"))
    for index, series in enumerate(chart.series):
        scaled = [
            f"{MARGIN + 20 + width * (x - span[0]) / (span[1] - span[0]):.1f},{bottom - PLOT_HEIGHT * y / greatest:.1f}"
            for x, y in zip(series.x, series.y, strict=True)
        ]
        colour = COLOURS[index % len(COLOURS)]
        parts.append(f'<polyline points="{" ".join(scaled)}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        parts.append(_text(WIDTH - MARGIN - 130 * (len(chart.series) - index), top + 14, series.label, colour=colour))
    return parts


def _ticks(span: tuple[float, float]) -> list[float]:
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 10**6) if (span[1] - span[0]) / step <= 12)
    return [float(second) for second in range(0, int(span[1]) + 1, step) if second >= span[0]]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _text(
    x: float, y: float, text: str, *, size: int = 12, bold: bool = False, anchor: str = "start", colour: str = INK
) -> str:
    weight = ' font-weight="600"' if bold else ""
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}"'
    return f"<text {place}{weight}>{escape(text)}</text>"


def _svg(height: int, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{height}" fill="white"/>', *parts, "</svg>", ""])
