"""HTML parts of the page: sections, figures, tables. All cells are escaped here."""

from collections.abc import Iterable, Sequence
from html import escape


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def cell(value: object) -> str:
    """Return a value as HTML: escaped, unless it is `Html`."""
    return value if isinstance(value, Html) else escape(str(value))


def section(anchor: str, title: str, *parts: str) -> str:
    """Return a section whose heading links can point to."""
    return f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{escape(title)}</h2>{"".join(parts)}</section>'


def paragraph(text: object, look: str = "") -> str:
    """Return a paragraph."""
    return f'<p class="{look}">{cell(text)}</p>' if look else f"<p>{cell(text)}</p>"


def warning(line: str) -> str:
    """Return a line of warnings as a paragraph that begins with a capital letter; names in it keep their letters."""
    text = line.removeprefix("warning: ")
    return paragraph(text[:1].upper() + text[1:], "warn")


def figure(title: str, drawing: str, caption: str = "") -> str:
    """Return a drawing under its title."""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure><h3>{escape(title)}</h3>{drawing}{below}</figure>"


def pair(*figures: str) -> str:
    """Return figures, side by side where the screen is wide enough."""
    return f'<div class="pair">{"".join(figures)}</div>'


def trio(*figures: str) -> str:
    """Return small figures, three side by side where the screen is wide enough."""
    return f'<div class="trio">{"".join(figures)}</div>'


def table(
    head: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Sequence[int] = (), highlighted: int = -1
) -> str:
    """Return a table; `numbers` are the columns to align right, `highlighted` is a row."""
    look = [' class="n"' if place in numbers else "" for place in range(len(head))]
    top = "".join(
        f'<th scope="col"{look[place]}>{escape(text)}</th>'
        if text
        else "<td></td>"  # screen readers name no empty head
        for place, text in enumerate(head)
    )
    body = ""
    for number, row in enumerate(rows):
        cells = "".join(f"<td{look[place]}>{cell(value)}</td>" for place, value in enumerate(row))
        body += f'<tr class="us">{cells}</tr>' if number == highlighted else f"<tr>{cells}</tr>"
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def code(text: str) -> str:
    """Return text for the reader to copy."""
    return f"<pre>{escape(text)}</pre>"


def code_word(text: object) -> Html:
    """Return one word set as code."""
    return Html(f"<code>{escape(str(text))}</code>")


def folded(summary: str, *parts: str) -> str:
    """Return parts that are hidden until the reader opens them."""
    return f"<details><summary>{escape(summary)}</summary>{''.join(parts)}</details>"
