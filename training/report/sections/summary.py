"""The top of the page: what the model predicts, how well, and links to the sections."""

from html import escape

from batchproof.training.report.charts.scale import number
from batchproof.training.report.facts import Facts
from batchproof.training.report.measures.scores import Score

LINKS = {
    "results": "Results",
    "threshold": "Threshold",
    "uncertainty": "Uncertainty",
    "groups": "Groups",
    "importance": "Feature importance",
    "card": "Use and limits",
    "data": "Data",
    "training": "Training",
    "norms": "Batch norm",
    "parity": "Parity",
    "serving": "Serving",
    "provenance": "Provenance",
}

MODEL_PAGE = "."  # of the report at a service; of the file, the folder of the bundle


def header(facts: Facts) -> str:
    """Return the headline, the cards and the links."""
    content = facts.content
    absent = {"threshold"} if facts.threshold is None else set()
    absent |= set() if facts.groups else {"groups"}
    links = "".join(f'<a href="#{anchor}">{text}</a>' for anchor, text in LINKS.items() if anchor not in absent)
    links += f'<a href="{MODEL_PAGE}">Model page</a>'
    return (
        f"<header><h1>{escape(content['name'])} <small>version {content['version']}</small></h1>"
        f'<p class="lead">{escape(lead(facts))}</p><ul class="cards">{"".join(cards(facts))}</ul>'
        f'<nav aria-label="Sections">{links}</nav></header>'
    )


def lead(facts: Facts) -> str:
    """Return one sentence: what is predicted, from what, and learnt from which rows."""
    signature, provenance = facts.signature, facts.content["provenance"]
    what = "a number" if signature.classes is None else f"one of {len(signature.classes)} classes"
    features = f"{len(signature.inputs)} feature{'s' if len(signature.inputs) > 1 else ''}"
    rows = f"{provenance['split']['train']:,} rows of {provenance['data']['file']}"
    if signature.targets is not None:
        what = f"{len(signature.targets)} numbers"
    return f"Predicts {signature.predicted}, {what}, from {features}. Learnt from {rows}."


def cards(facts: Facts) -> list[str]:
    """Return the first metrics with their intervals, the number of rows, and the batch invariance."""
    shown = [_metric(score) for score in facts.scores_of()[:3]]
    rows = f"{len(facts.truth):,}"
    arithmetic = facts.content["arithmetic"]["kind"]
    return [
        *shown,
        _card(
            f"{facts.evaluation_part} rows",
            rows,
            "never trained on" if facts.evaluation_part == "test" else "also used for early stopping",
        ),
        _card("batch invariance", facts.verification.status, f"{arithmetic} arithmetic"),
    ]


def _metric(score: Score) -> str:
    measured = score.methods["This model"]
    return _card(score.name, number(measured.value), f"{number(measured.low)} to {number(measured.high)}")


def _card(name: str, value: str, note: str) -> str:
    return f"<li><span>{escape(name)}</span><b>{escape(value)}</b><span>{escape(note)}</span></li>"
