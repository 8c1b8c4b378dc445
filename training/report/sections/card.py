"""Use and limits: what the model card says beyond the other sections."""

from batchproof.service.bundle.documents import statement
from batchproof.training.report import markup
from batchproof.training.report.facts import Facts


def section(facts: Facts) -> str:
    """Return what the author states, and what the model must not be relied on for."""
    name = facts.content["name"]
    limits = "".join(f"<li>{markup.cell(sentence)}</li>" for sentence in statement.limits(facts.content))
    return markup.section(
        "card",
        "Use and limits",
        markup.table(("", ""), list(statement.stated_at_training(facts.content).lines())),
        f"<ul>{limits}</ul>",
        markup.paragraph(f"The model card in Markdown: batchproof card models/{name}", "soft"),
    )
