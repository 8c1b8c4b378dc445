"""report.html: the page a person reads. One file without scripts or outside links."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from training.fit import Epoch

STYLE = "body{font:16px/1.5 system-ui;max-width:60em;margin:2em auto;padding:0 1em}td,th{text-align:left;padding:.1em 1em .1em 0}"


def render(content: Mapping[str, Any], history: Sequence[Epoch]) -> bytes:
    """Return the page for bundle.json's `content` and the epochs of the fit."""
    title = escape(f"{content['name']} {content['version']}")
    epochs = [(epoch.number, f"{epoch.train_loss:.5g}", f"{epoch.validation_loss:.5g}") for epoch in history]
    sections = [
        f"<h1>{title}</h1>",
        f"<p>{escape(content['task'])}, target {escape(content['signature']['target'])}</p>",
        table("On the held-out test rows", ("metric", "value"), content["metrics"].items()),
        table("Data", ("", ""), content["provenance"]["data"].items()),
        table("Rows", ("part", "rows"), content["provenance"]["split"].items()),
        table("Epochs", ("epoch", "training loss", "validation loss"), epochs),
    ]
    head = f"<meta charset=utf-8><title>{title}</title><style>{STYLE}</style>"
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(sections)}</body></html>\n".encode()


def table(title: str, head: Sequence[str], rows: Any) -> str:
    """Return a headed table of escaped cells."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<h2>{escape(title)}</h2><table><tr>{top}</tr>{body}</table>"
