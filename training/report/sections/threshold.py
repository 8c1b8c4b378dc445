"""The threshold between two classes: precision, recall and cost at every other one."""

from batchproof.service.bundle.signature import class_text
from batchproof.training.report import markup
from batchproof.training.report.charts import svg as charts
from batchproof.training.report.charts.scale import number, percent
from batchproof.training.report.charts.svg import Axes, Line
from batchproof.training.report.facts import Facts
from batchproof.training.report.measures.threshold_curve import ThresholdCurve

CHOSEN = {
    "f1": "the best F1 score",
    "balanced_accuracy": "the best balanced accuracy",
    "cost": "the least cost, where a false positive costs {0:g} and a false negative {1:g}",
}


def section(facts: Facts) -> str:
    """Return the section; nothing for a bundle whose label is the most probable class."""
    curve = facts.threshold
    if curve is None:
        return ""
    label = class_text((facts.signature.classes or ())[1])
    figures = [_shares(curve), *([] if curve.costs is None else [_cost(curve, curve.costs)])]
    return markup.section(
        "threshold",
        "Threshold",
        markup.paragraph(_introduction(curve, label, facts.evaluation_part)),
        markup.pair(*figures, _numbers(curve)),
    )


def _introduction(curve: ThresholdCurve, label: str, part: str) -> str:
    decision = curve.decision
    start = f"The label is {label} where its probability is at least {decision.threshold:g}. "
    if decision.rows:
        why = CHOSEN[curve.rule.kind].format(*curve.rule.costs)
        start += f"This threshold had {why} on the {decision.rows:,} validation rows. "
    return f"{start}Probabilities do not depend on it. The curves are those of the {part} rows."


def _shares(curve: ThresholdCurve) -> str:
    along, x = curve.along, curve.grid.tolist()
    drawn = [
        Line("precision", x, along.precision.tolist(), "a"),
        Line("recall", x, along.recall.tolist(), "b"),
        Line("F1", x, along.f1.tolist(), "c"),
    ]
    (chosen, *_) = curve.at.values()
    summary = f"at {curve.decision.threshold:g}, precision {percent(chosen.precision[0])} and recall {percent(chosen.recall[0])}"
    axes = Axes("Precision and recall over the threshold", summary, "threshold", "share")
    drawing = charts.lines(axes, drawn, unit_square=True, mark=curve.decision.threshold)
    return markup.figure("Precision and recall", drawing, f"{summary[:1].upper()}{summary[1:]}.")


def _cost(curve: ThresholdCurve, costs: tuple[float, float]) -> str:
    (chosen, *_) = curve.at.values()
    summary = f"at {curve.decision.threshold:g}, a row costs {number(float(chosen.cost(costs)[0]))} on average"
    axes = Axes("Cost over the threshold", summary, "threshold", "mean cost of a row")
    lines = [Line("cost", curve.grid.tolist(), curve.along.cost(costs).tolist(), "a")]
    drawing = charts.lines(axes, lines, mark=curve.decision.threshold)
    return markup.figure("Cost", drawing, f"{summary[:1].upper()}{summary[1:]}.")


def _numbers(curve: ThresholdCurve) -> str:
    head = ["threshold", "precision", "recall", "F1", "accuracy", "balanced accuracy"]
    rows = []
    for threshold, counts in curve.at.items():
        shares = (counts.precision, counts.recall, counts.f1, counts.accuracy, counts.balanced_accuracy)
        cost = [] if curve.costs is None else [number(float(counts.cost(curve.costs)[0]))]
        rows.append([f"{threshold:g}", *(percent(float(share[0])) for share in shares), *cost])
    head += [] if curve.costs is None else ["cost of a row"]
    return markup.figure("At two thresholds", markup.table(head, rows, numbers=range(len(head)), highlighted=0))
