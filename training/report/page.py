"""The page put together."""

from html import escape
from pathlib import Path

from batchproof.training.report.facts import Facts
from batchproof.training.report.sections import batchnorm as machinery
from batchproof.training.report.sections import importance as listening
from batchproof.training.report.sections import performance as results
from batchproof.training.report.sections import provenance as origin
from batchproof.training.report.sections import summary as headline
from batchproof.training.report.sections import uncertainty as certainty

STYLE = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
SECTIONS = (
    results.section,
    certainty.section,
    listening.section,
    origin.data_section,
    origin.training_section,
    machinery.norms_section,
    machinery.sameness_section,
    machinery.serving_section,
    origin.provenance_section,
)


def render(facts: Facts) -> bytes:
    """Return report.html: one file, valid without any other, with no script in it."""
    title = escape(f"{facts.content['name']} {facts.content['version']}")
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{title} · report</title><link rel="icon" href="data:,"><style>{STYLE}</style>'
    )
    body = headline.header(facts) + "".join(section(facts) for section in SECTIONS)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body><main>{body}</main></body></html>\n'.encode()
