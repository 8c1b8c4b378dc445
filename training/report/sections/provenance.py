"""Where the model comes from: the table and what was left out of it, the fit, and every setting."""

import json

from batchproof.service.bundle.signature import Feature
from batchproof.training.report import markup as blocks
from batchproof.training.report.charts import svg as charts
from batchproof.training.report.charts.scale import day, number, percent
from batchproof.training.report.charts.svg import Axes, Line
from batchproof.training.report.facts import Facts

MOST_FEATURES = 200  # lines of a table
NAMED = 6  # categories


def data_section(facts: Facts) -> str:
    """Return what was read, what was dropped and why, and what to be wary of."""
    told = facts.content["provenance"]
    parts = ", ".join(f"{count:,} {part}" for part, count in told["split"].items() if count)
    said = f"{told['data']['file']}: {told['data']['rows']:,} rows, {told['data']['columns']} columns; {parts} rows."
    warnings = [blocks.paragraph(line.removeprefix("warning: ").capitalize(), "warn") for line in told["warnings"]]
    inputs = facts.signature.inputs
    rows = [_feature(facts, feature) for feature in inputs[:MOST_FEATURES]]
    more = [blocks.paragraph(f"and {len(inputs) - MOST_FEATURES} more", "soft")] if len(inputs) > MOST_FEATURES else []
    head = ("feature", "kind", "training range or categories", "missing")
    return blocks.section(
        "data",
        "Data",
        blocks.paragraph(said),
        *warnings,
        blocks.table(head, rows, numbers=(3,)),
        *more,
        _dropped(facts),
    )


def _feature(facts: Facts, feature: Feature) -> tuple[object, ...]:
    missing = facts.missing[feature.name]
    share = percent(missing) if missing else ("never" if not feature.missing else "0 %")
    return (
        blocks.Html(f"<b>{blocks.cell(feature.name)}</b>"),
        f"{feature.kind}, {feature.value_type}",
        _values(feature),
        share,
    )


def _values(feature: Feature) -> str:
    if feature.kind == "categorical":
        names = feature.categories or ()
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        return f"{len(names)}: " + ", ".join(names[:NAMED]) + more
    if feature.range is None:
        return "no value seen"
    if feature.kind == "date":
        return " to ".join(day(seconds) for seconds in feature.range)
    if feature.value_type == "integer":
        return " to ".join(f"{value:,.0f}" for value in feature.range)
    return " to ".join(number(value) for value in feature.range)


def _dropped(facts: Facts) -> str:
    dropped = facts.content["provenance"]["dropped"]
    if not dropped:
        return blocks.paragraph("No column was dropped.", "soft")
    return blocks.table(("dropped column", "why"), list(dropped.items())[:MOST_FEATURES])


def training_section(facts: Facts) -> str:
    """Return the curves and what was chosen."""
    told = facts.content["provenance"]
    x = [epoch.number for epoch in facts.history]
    drawn = [
        Line("training", x, [epoch.train_loss for epoch in facts.history], "b"),
        Line("validation", x, [epoch.validation_loss for epoch in facts.history], "a"),
    ]
    best = facts.history[facts.best - 1]
    axes = Axes(
        "Loss by epoch",
        f"best validation loss {best.validation_loss:.4g} in epoch {facts.best}",
        "epoch",
        "loss",
        is_whole=True,
    )
    curves = blocks.figure("Loss by epoch", charts.lines(axes, drawn, mark=facts.best), f"Epoch {facts.best} was kept.")
    rates = charts.lines(
        Axes("Learning rate", "after each epoch", "epoch", "learning rate", is_whole=True),
        [Line("learning rate", x, [epoch.learning_rate for epoch in facts.history], "c")],
    )
    ended = {"early": "no epoch was better for long", "interrupted": "it was interrupted"}
    said = f"{told['epochs']['run']} epochs; ended because {ended.get(told['epochs']['stopped'], 'all planned epochs were run')}. "
    chosen = told["chosen"]
    widths = " and ".join(str(width) for width in chosen["network"]["widths"])
    said += f"Networks: {chosen['network']['members']}, of {widths} hidden units; encoding “{chosen['name']}”."
    note = "The training loss is taken in training mode (dropout, batch statistics), the validation loss of the averaged network."
    return blocks.section(
        "training",
        "Training",
        blocks.paragraph(said),
        blocks.pair(curves, blocks.figure("Learning rate", rates)),
        blocks.paragraph(note, "soft"),
    )


def provenance_section(facts: Facts) -> str:
    """Return where everything came from, to do it again."""
    told = facts.content["provenance"]
    rows = [
        ("created", told["created"]),
        ("data, SHA-256", blocks.code_word(told["data"]["sha256"])),
        ("seed", told["seed"]),
        *((name, version) for name, version in told["versions"].items()),
    ]
    return blocks.section(
        "provenance",
        "Provenance",
        blocks.table(("", ""), rows),
        blocks.folded("All settings", blocks.code(json.dumps(told["settings"], indent=1))),
        blocks.folded("What was chosen", blocks.code(json.dumps(told["chosen"], indent=1))),
    )
