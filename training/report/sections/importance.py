"""What the model listens to: importance of features, and the answer along each of the most important ones."""

from batchproof.training.report import markup as blocks
from batchproof.training.report.charts import category_points as levels
from batchproof.training.report.charts import svg as charts
from batchproof.training.report.charts.scale import TICKS, day, number
from batchproof.training.report.charts.svg import Axes, Line
from batchproof.training.report.facts import Facts
from batchproof.training.report.measures.importance import REPEATS, ROWS, Dependence

SHOWN = 20
DAYS = 3  # ticks of an axis of dates, about
LOOKS = ("a", "b", "c", "d")


def section(facts: Facts) -> str:
    """Return the section."""
    shown = facts.importances[:SHOWN]
    left = len(facts.importances) - len(shown)
    unit = "rise of the RMSE" if facts.signature.classes is None else "rise of the log loss in nats"
    told = ", ".join(f"{one.feature} {number(one.rise)}" for one in shown[:5])
    drawing = charts.bars("Permutation importance", told, [(one.feature, one.rise, one.spread) for one in shown], unit)
    note = (
        f"{REPEATS} shuffles of at most {ROWS:,} {facts.evaluation_part} rows; whiskers are their standard deviation."
    )
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
    name, classes = found.feature.name, facts.signature.classes
    what = f"mean {facts.signature.target}" if classes is None else "mean probability"
    if classes is not None and len(found.lines) == 1:
        what += f" of {found.lines[0]}"
    title = f"Along {name}"
    told = f"from {number(float(found.answers.min()))} to {number(float(found.answers.max()))}"
    if found.labels:
        return blocks.figure(
            title, levels.points(Axes(title, told, what, ""), found.labels, found.answers, found.lines)
        )
    drawn = [
        Line(line, found.grid.tolist(), found.answers[:, place].tolist(), LOOKS[place])
        for place, line in enumerate(found.lines)
    ]
    is_date = found.feature.kind == "date"
    axes = Axes(title, told, name, what, ticks=DAYS if is_date else TICKS, text=day if is_date else number)
    return blocks.figure(title, charts.lines(axes, drawn))
