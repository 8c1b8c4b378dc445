"""The page: its head, its style and its sections in order."""

from html import escape
from pathlib import Path

from batchproof.training.report.facts import Facts
from batchproof.training.report.sections import (
    batchnorm,
    card,
    groups,
    importance,
    performance,
    provenance,
    summary,
    threshold,
    uncertainty,
)

STYLE = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
SECTIONS = (
    performance.section,
    threshold.section,
    uncertainty.section,
    groups.section,
    importance.section,
    card.section,
    provenance.data_section,
    provenance.training_section,
    batchnorm.norms_section,
    batchnorm.parity_section,
    batchnorm.serving_section,
    provenance.provenance_section,
)


def render(facts: Facts) -> bytes:
    """Return report.html: one file that needs no other, without scripts."""
    title = escape(f"{facts.content['name']} {facts.content['version']}")
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{title} · report</title><link rel="icon" href="data:,"><style>{STYLE}</style>'
    )
    body = summary.header(facts) + "".join(section(facts) for section in SECTIONS)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body><main>{body}</main></body></html>\n'.encode()
