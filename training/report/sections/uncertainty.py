"""How sure the answers are: reliability of probabilities, and coverage of sets and intervals."""

from batchproof.service.bundle.signature import class_text
from batchproof.training.report import markup as blocks
from batchproof.training.report.charts import svg as charts
from batchproof.training.report.charts.scale import percent
from batchproof.training.report.charts.svg import Axes, Line
from batchproof.training.report.facts import Facts
from batchproof.training.report.measures.reliability import SECOND, Curve, Reliability

SHOWN = ("0.5", "0.8", "0.9", "0.95", "0.99")


def section(facts: Facts) -> str:
    """Return the section."""
    figures = [] if facts.reliability is None else [_reliability(facts, facts.reliability)]
    found = facts.content["uncertainty"]
    tested = found["tested"] if found else {}
    if tested:
        figures += [_coverage(tested), _numbers(facts, tested)]
    parts = [blocks.pair(*figures)] if figures else []
    return blocks.section("certainty", "How sure it is", _words(facts), *parts)


def _reliability(facts: Facts, found: Reliability) -> str:
    told = f"expected calibration error {found.before.error:.3f} before the temperature, {found.after.error:.3f} after"
    drawn = [Line("as stated", (0, 1), (0, 1), "guide"), _line("served", found.after, "a")]
    if found.temperature != 1.0:
        drawn.insert(1, _line(f"before the temperature {found.temperature:.3g}", found.before, "b"))
    classes = facts.signature.classes or ()
    what = class_text(classes[1]) if found.what == SECOND else found.what
    axes = Axes("Reliability", told, f"stated probability of {what}", "observed share")
    note = "no temperature was needed" if found.temperature == 1.0 else told
    drawing = charts.lines(axes, drawn, unit_square=True)
    return blocks.figure(
        "Reliability", drawing, f"{facts.evaluation_part.capitalize()} rows in bins of equal size; {note}."
    )


def _line(name: str, found: Curve, look: str) -> Line:
    return Line(name, found.stated.tolist(), found.observed.tolist(), look, is_dotted=True)


def _coverage(tested: dict[str, dict[str, float]]) -> str:
    asked = [float(coverage) for coverage in tested]
    measured = [one["coverage"] for one in tested.values()]
    axes = Axes("Coverage", "asked against measured on the test rows", "coverage asked for", "measured")
    ends = (min(asked), max(asked))
    drawn = [Line("as asked", ends, ends, "guide"), Line("measured on test rows", asked, measured, "a")]
    return blocks.figure(
        "Coverage of sets and intervals",
        charts.lines(axes, drawn),
        "At least as asked is what is promised, on average over tables.",
    )


def _numbers(facts: Facts, tested: dict[str, dict[str, float]]) -> str:
    head = ("asked", "measured", "mean width" if facts.signature.classes is None else "mean classes in a set")
    rows = [
        (percent(float(asked), 0), percent(one["coverage"]), f"{one.get('width', one.get('size', 0)):.4g}")
        for asked, one in tested.items()
        if asked in SHOWN
    ]
    return blocks.figure("Coverage as numbers", blocks.table(head, rows, numbers=(1, 2)))


def _words(facts: Facts) -> str:
    found = facts.content["uncertainty"]
    if not found:
        return blocks.paragraph("There were too few validation rows to promise a coverage.", "soft")
    kind = "an interval" if facts.signature.classes is None else "a set of classes"
    return blocks.paragraph(
        f'A request with "coverage": 0.9 gets {kind} made to hold the truth for 90 % of rows like these, on average over tables. '
        f"Thresholds come from {found['calibration_rows']:,} validation rows (split-conformal)."
    )
