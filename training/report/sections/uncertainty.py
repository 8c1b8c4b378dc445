"""Uncertainty: reliability of probabilities, and coverage of prediction sets and intervals."""

from typing import Any

from batchproof.service.bundle.signature import class_text
from batchproof.training.report import markup
from batchproof.training.report.charts import svg as charts
from batchproof.training.report.charts.scale import percent
from batchproof.training.report.charts.svg import Axes, Line
from batchproof.training.report.facts import Facts
from batchproof.training.report.measures.reliability import SECOND, Curve, Reliability

SHOWN = ("0.5", "0.8", "0.9", "0.95", "0.99")


def section(facts: Facts) -> str:
    """Return the section."""
    figures = [] if facts.reliability is None else [_reliability(facts, facts.reliability)]
    for target, thresholds in _thresholds(facts).items():
        tested = thresholds["tested"]
        if tested:
            named = f"{target}: " if target else ""
            figures += [_coverage(tested, named), _numbers(facts, tested, named)]
    measured = facts.content["metrics"].get("quantiles")
    if measured:
        figures.append(_quantiles(facts, measured))
    parts = [markup.pair(*figures)] if figures else []
    return markup.section("uncertainty", "Uncertainty", _introduction(facts), *parts)


def _thresholds(facts: Facts) -> dict[str, dict[str, Any]]:
    """Return the thresholds of each of several targets by name, or those of the only one under an empty name."""
    each, targets = facts.content.get("uncertainties"), facts.signature.targets
    if each and targets is not None:
        return dict(zip(targets, each, strict=True))
    only = facts.content["uncertainty"]
    return {"": only} if only else {}


def _quantiles(facts: Facts, measured: dict[str, dict[str, float]]) -> str:
    rows = [(level, percent(found["coverage"]), f"{found['pinball']:.4g}") for level, found in measured.items()]
    head = ("quantile", f"{facts.evaluation_part} rows up to it", "pinball loss")
    total, constant = (facts.content["metrics"][name] for name in ("pinball", "constant_pinball"))
    note = (
        f"Mean pinball loss {total:.4g}; the same quantiles for every row, those of the training rows: {constant:.4g}."
    )
    return markup.figure("Quantiles", markup.table(head, rows, numbers=(1, 2)), note)


def _reliability(facts: Facts, reliability: Reliability) -> str:
    before, after, temperature = reliability.before, reliability.after, reliability.temperature
    summary = f"expected calibration error {before.error:.3f} before temperature scaling, {after.error:.3f} after"
    drawn = [Line("perfectly calibrated", (0, 1), (0, 1), "guide"), _line("served", after, "a")]
    if temperature != 1.0:
        drawn.insert(1, _line(f"before temperature {temperature:.3g}", before, "b"))
    classes = facts.signature.classes or ()
    label = class_text(classes[1]) if reliability.what == SECOND else reliability.what
    axes = Axes("Reliability", summary, f"predicted probability of {label}", "observed frequency")
    note = "no temperature scaling was needed" if temperature == 1.0 else summary
    drawing = charts.lines(axes, drawn, unit_square=True)
    return markup.figure(
        "Reliability", drawing, f"{facts.evaluation_part.capitalize()} rows in bins of equal size; {note}."
    )


def _line(name: str, curve: Curve, look: str) -> Line:
    return Line(name, curve.stated.tolist(), curve.observed.tolist(), look, is_dotted=True)


def _coverage(tested: dict[str, dict[str, float]], named: str) -> str:
    requested = [float(coverage) for coverage in tested]
    measured = [result["coverage"] for result in tested.values()]
    axes = Axes(
        f"{named}Coverage", "requested against measured on the test rows", "requested coverage", "measured coverage"
    )
    ends = (min(requested), max(requested))
    drawn = [Line("as requested", ends, ends, "guide"), Line("measured on test rows", requested, measured, "a")]
    return markup.figure(
        f"{named}Coverage of {'intervals' if named else 'sets and intervals'}",
        charts.lines(axes, drawn),
        "The promise: at least the requested coverage, on average over tables.",
    )


def _numbers(facts: Facts, tested: dict[str, dict[str, float]], named: str) -> str:
    head = ("requested", "measured", "mean width" if facts.signature.classes is None else "mean classes in a set")
    rows = [
        (percent(float(coverage), 0), percent(result["coverage"]), f"{result.get('width', result.get('size', 0)):.4g}")
        for coverage, result in tested.items()
        if coverage in SHOWN
    ]
    return markup.figure(f"{named}Coverage as numbers", markup.table(head, rows, numbers=(1, 2)))


def _introduction(facts: Facts) -> str:
    found = _thresholds(facts)
    if not found:
        return markup.paragraph("There were too few validation rows for prediction sets or intervals.", "soft")
    thresholds = next(iter(found.values()))
    kind = "an interval" if facts.signature.classes is None else "a set of classes"
    if facts.signature.targets is not None:
        kind = "an interval for each target"
    text = (
        f'A request with "coverage": 0.9 gets {kind} that contains the truth for 90 % of such rows, on average over tables. '
        f"The thresholds come from {thresholds['calibration_rows']:,} validation rows (split conformal prediction)."
    )
    if facts.signature.targets is not None:
        text += " The coverage is that of each target by itself: all intervals of a row hold together less often."
    return markup.paragraph(text)
