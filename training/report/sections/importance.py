"""Feature importance, and partial dependence on the most important features."""

from batchproof.training.report import markup
from batchproof.training.report.charts import category_points
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
    omitted = len(facts.importances) - len(shown)
    unit = "increase of the RMSE" if facts.signature.classes is None else "increase of the log loss in nats"
    if facts.signature.targets is not None:
        unit = "increase of the standardised RMSE"
    summary = ", ".join(f"{importance.feature} {number(importance.rise)}" for importance in shown[:5])
    drawing = charts.bars("Permutation importance", summary, list(shown), unit)
    note = (
        f"{REPEATS} shuffles of at most {ROWS:,} {facts.evaluation_part} rows; whiskers show their standard deviation."
    )
    if omitted:
        note += f" {omitted} more features are less important."
    important = markup.figure("Permutation importance", drawing, note)
    return markup.section(
        "importance",
        "Feature importance",
        markup.paragraph(
            "Averages over rows: they show what the model does, not what causes what. "
            'For a single row, a request with "explain": true returns the contribution of each feature.'
        ),
        markup.pair(important, *(_dependence(facts, dependence) for dependence in facts.dependences)),
    )


def _dependence(facts: Facts, dependence: Dependence) -> str:
    name, classes = dependence.feature.name, facts.signature.classes
    what = f"mean {facts.signature.target}" if classes is None else "mean probability"
    if facts.signature.targets is not None:
        what = "mean value, in standard deviations from the mean"
    if classes is not None and len(dependence.lines) == 1:
        what += f" of {dependence.lines[0]}"
    title = f"Partial dependence on {name}"
    span = f"from {number(float(dependence.answers.min()))} to {number(float(dependence.answers.max()))}"
    if dependence.labels:
        return markup.figure(
            title,
            category_points.points(
                Axes(title, span, what, ""), dependence.labels, dependence.answers, dependence.lines
            ),
        )
    drawn = [
        Line(line, dependence.grid.tolist(), dependence.answers[:, place].tolist(), LOOKS[place])
        for place, line in enumerate(dependence.lines)
    ]
    is_date = dependence.feature.kind == "date"
    axes = Axes(title, span, name, what, ticks=DAYS if is_date else TICKS, text=day if is_date else number)
    return markup.figure(title, charts.lines(axes, drawn))
