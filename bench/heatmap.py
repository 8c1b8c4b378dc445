"""Shares as a coloured table in SVG text, without a plotting library."""

from collections.abc import Sequence
from html import escape

LABELS, CELL, LINE, TOP = 290, 46, 30, 64  # pixels
INK, NONE, ALL = "#1f2933", (224, 242, 233), (192, 86, 33)  # colours of no row and of every row


def heatmap(title: str, sizes: Sequence[int], lines: Sequence[tuple[str, Sequence[float]]]) -> str:
    """Return the picture: a line for each label, a cell for each batch size, its colour the share."""
    width, height = LABELS + CELL * len(sizes) + 16, TOP + LINE * len(lines) + 16
    parts = [_text(12, 22, title, weight=600), _text(LABELS - 10, TOP - 10, "batch rows", anchor="end")]
    parts += [_text(_middle(place), TOP - 10, str(size), anchor="middle") for place, size in enumerate(sizes)]
    for number, (label, shares) in enumerate(lines):
        top = TOP + LINE * number
        parts.append(_text(LABELS - 10, top + 20, label, anchor="end"))
        for place, share in enumerate(shares):
            box = f'x="{LABELS + CELL * place + 1}" y="{top + 1}" width="{CELL - 2}" height="{LINE - 2}" rx="3"'
            parts.append(f'<rect {box} fill="{_colour(share)}"/>')
            parts.append(_text(_middle(place), top + 20, _percent(share), anchor="middle"))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif">'
    named = f"<title>{escape(title)}</title>"
    return "\n".join([head, named, f'<rect width="{width}" height="{height}" fill="white"/>', *parts, "</svg>", ""])


def _middle(place: int) -> float:
    return LABELS + CELL * (place + 0.5)


def _colour(share: float) -> str:
    if share == 0:
        return "#{:02x}{:02x}{:02x}".format(*NONE)
    depth = 0.35 + 0.65 * share  # a little is not nothing: it must be seen
    return "#{:02x}{:02x}{:02x}".format(*(round(255 + depth * (end - 255)) for end in ALL))


def _percent(share: float) -> str:
    if share in (0.0, 1.0):
        return "0" if share == 0 else "100 %"
    return f"{min(max(1, round(100 * share)), 99)} %"  # almost none is not none, almost all is not all


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: int = 400) -> str:
    style = f'font-size="12" font-weight="{weight}" text-anchor="{anchor}" fill="{INK}"'
    return f'<text x="{x:g}" y="{y:g}" {style}>{escape(text)}</text>'
