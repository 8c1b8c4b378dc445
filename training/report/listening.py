"""What the model listens to: importance of features, and the answer along each of the most important ones."""

import numpy as np

from training.report import blocks, charts
from training.report.charts import Axes, Line
from training.report.facts import Facts
from training.report.influence import REPEATS, ROWS, Dependence
from training.report.scale import number

SHOWN = 20
LOOKS = ("a", "b", "c", "d")
MANY = 6  # categories; more are drawn as bars


def section(facts: Facts) -> str:
    """Return the section."""
    shown = facts.importances[:SHOWN]
    left = len(facts.importances) - len(shown)
    unit = "rise of the RMSE" if facts.signature.classes is None else "rise of the log loss in nats"
    told = ", ".join(f"{one.feature} {number(one.rise)}" for one in shown[:5])
    drawing = charts.bars("Permutation importance", told, [(one.feature, one.rise, one.spread) for one in shown], unit)
    note = f"{REPEATS} shuffles of at most {ROWS:,} {facts.judged} rows; whiskers are their standard deviation."
    if left:
        note += f" {left} further features matter less."
    important = blocks.figure("Importance: what a shuffled feature costs", drawing, note)
    return blocks.section(
        "listening",
        "What it listens to",
        blocks.paragraph(
            "Means over rows: they tell what the model does, not what causes what. "
            'For one row, a request with "explain": true returns each feature\'s contribution.'
        ),
        blocks.pair(important, *(_dependence(facts, one) for one in facts.dependences)),
    )


def _dependence(facts: Facts, found: Dependence) -> str:
    name = found.feature.name
    what = "mean value" if facts.signature.classes is None else "mean probability"
    title = f"Along {name}"
    if len(found.labels) > MANY:
        rows = [(label, float(answer), 0.0) for label, answer in zip(found.labels, found.answers[:, 0], strict=True)]
        return blocks.figure(title, charts.bars(title, what, rows, f"{what} of {found.lines[0]}"))
    grid = np.arange(len(found.labels)) if found.labels else found.grid
    drawn = [
        Line(line, grid.tolist(), found.answers[:, place].tolist(), LOOKS[place], is_dotted=bool(found.labels))
        for place, line in enumerate(found.lines)
    ]
    of = f" of {found.lines[0]}" if len(found.lines) == 1 and facts.signature.classes else ""
    axes = Axes(
        title,
        f"from {number(float(found.answers.min()))} to {number(float(found.answers.max()))}",
        _unit(found),
        what + of,
    )
    return blocks.figure(title, charts.lines(axes, drawn, x_labels=found.labels))


def _unit(found: Dependence) -> str:
    return f"{found.feature.name} (seconds since 1970)" if found.feature.kind == "date" else found.feature.name
