"""Provenance: the table and its dropped columns, the fit, and every setting."""

import json
from collections.abc import Mapping
from typing import Any

from batchproof.service.bundle.signature import Feature
from batchproof.training.report import markup
from batchproof.training.report.charts import svg as charts
from batchproof.training.report.charts.scale import day, number, percent
from batchproof.training.report.charts.svg import Axes, Line
from batchproof.training.report.facts import Facts

MOST_FEATURES = 200  # lines of a table
NAMED = 6  # categories


def data_section(facts: Facts) -> str:
    """Return what was read, what was dropped and why, and the warnings."""
    provenance = facts.content["provenance"]
    parts = ", ".join(f"{count:,} {part}" for part, count in provenance["split"].items() if count)
    summary = f"{provenance['data']['file']}: {provenance['data']['rows']:,} rows, {provenance['data']['columns']} columns; {parts} rows."
    summary += _split_by(provenance.get("split_by"))
    warnings = [markup.warning(line) for line in provenance["warnings"]]
    inputs = facts.signature.inputs
    rows = [_feature(facts, feature) for feature in inputs[:MOST_FEATURES]]
    more = (
        [markup.paragraph(f"and {len(inputs) - MOST_FEATURES} more features", "soft")]
        if len(inputs) > MOST_FEATURES
        else []
    )
    head = ("feature", "kind", "training range or categories", "missing")
    return markup.section(
        "data",
        "Data",
        markup.paragraph(summary),
        *warnings,
        markup.table(head, rows, numbers=(3,)),
        *more,
        _dropped(facts),
    )


def _split_by(described: Mapping[str, Any] | None) -> str:
    """Return what bundle.json says of a split by group or time, as sentences."""
    if described is None:
        return ""
    if "group" in described:
        counts = ", ".join(f"{count:,} {part}" for part, count in described["groups"].items())
        return f" Split by group: all rows of one {described['group']} are in one part; {counts} groups."
    ends = ", ".join(f"{part} {first} to {last}" for part, (first, last) in described["times"].items())
    return f" Split by time, {described['time']}: {ends}."


def _feature(facts: Facts, feature: Feature) -> tuple[object, ...]:
    missing = facts.missing[feature.name]
    share = percent(missing) if missing else ("never" if not feature.missing else "0 %")
    return (
        markup.Html(f"<b>{markup.cell(feature.name)}</b>"),
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
        return "no value in training"
    if feature.kind == "date":
        return " to ".join(day(seconds) for seconds in feature.range)
    if feature.value_type == "integer":
        return " to ".join(f"{value:,.0f}" for value in feature.range)
    return " to ".join(number(value) for value in feature.range)


def _dropped(facts: Facts) -> str:
    dropped = facts.content["provenance"]["dropped"]
    if not dropped:
        return markup.paragraph("No column was dropped.", "soft")
    return markup.table(("dropped column", "reason"), list(dropped.items())[:MOST_FEATURES])


def training_section(facts: Facts) -> str:
    """Return the loss curves and what was chosen."""
    provenance = facts.content["provenance"]
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
    curves = markup.figure("Loss by epoch", charts.lines(axes, drawn, mark=facts.best), f"Epoch {facts.best} was kept.")
    rates = charts.lines(
        Axes("Learning rate", "after each epoch", "epoch", "learning rate", is_whole=True),
        [Line("learning rate", x, [epoch.learning_rate for epoch in facts.history], "c")],
    )
    reasons = {"early": "the validation loss no longer improved", "interrupted": "it was interrupted"}
    summary = f"{provenance['epochs']['run']} epochs; ended because {reasons.get(provenance['epochs']['stopped'], 'all planned epochs were run')}. "
    chosen = provenance["chosen"]
    widths = " and ".join(str(width) for width in chosen["network"]["widths"])
    summary += f"Networks: {chosen['network']['members']}, with {widths} hidden units; encoding “{chosen['name']}”."
    if provenance["settings"].get("quick"):
        summary += " A quick fit (--quick): the default fit takes longer, and its loss is typically lower."
    note = (
        "Training loss: in training mode, with dropout and batch statistics. Validation loss: of the averaged network."
    )
    metric = provenance["settings"].get("metric")
    if metric is not None:
        note += f" --metric {metric} takes the place of the validation loss, as what is to be least."
    return markup.section(
        "training",
        "Training",
        markup.paragraph(summary),
        markup.pair(curves, markup.figure("Learning rate", rates)),
        markup.paragraph(note, "soft"),
    )


def provenance_section(facts: Facts) -> str:
    """Return what is needed to repeat the training."""
    provenance = facts.content["provenance"]
    rows = [
        ("created", provenance["created"]),
        ("data, SHA-256", markup.code_word(provenance["data"]["sha256"])),
        ("seed", provenance["seed"]),
        *((name, version) for name, version in provenance["versions"].items()),
    ]
    return markup.section(
        "provenance",
        "Provenance",
        markup.table(("", ""), rows),
        markup.folded("All settings", markup.code(json.dumps(provenance["settings"], indent=1))),
        markup.folded("Chosen plan", markup.code(json.dumps(provenance["chosen"], indent=1))),
    )
