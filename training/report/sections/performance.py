"""Performance: metrics compared with simpler models, and where the predictions are wrong."""

from collections.abc import Sequence

import numpy as np

from batchproof.service.bundle.manifest import label_places
from batchproof.service.bundle.signature import class_text
from batchproof.training.report import markup
from batchproof.training.report.charts import heatmap
from batchproof.training.report.charts import svg as charts
from batchproof.training.report.charts.scale import number, percent
from batchproof.training.report.charts.svg import Axes
from batchproof.training.report.facts import Facts
from batchproof.training.report.measures.scores import Measured, Score

MATRIX_CLASSES = 30  # with more classes, only the most frequent mistakes are shown
MISTAKES = 10
BINS = 32


def section(facts: Facts) -> str:
    """Return the section."""
    drawn = [_figure(score) for score in facts.scores_of()]
    figures, rest = _classes(facts) if facts.signature.classes is not None else _values(facts)
    note = (
        f"Measured on {len(facts.truth):,} {facts.evaluation_part} rows with the graph that is served. Intervals are 95 % "
        "bootstrap intervals over these rows. The constant and the linear model are fitted to the same training rows (the "
        "linear model to at most 10,000 of them)."
    )
    if facts.evaluation_part != "test":
        note += " No test rows were set aside: these rows also decided when to stop, so the figures are optimistic."
    shares = facts.content["metrics"].get("class_prior")
    if shares:
        listed = ", ".join(f"{label} {share:.3g}" for label, share in shares.items())
        note += f" Rows were left out at random until the classes had the stated shares: {listed}."
    lost = [markup.warning(line) for line in facts.lost]
    shown = [
        *lost,
        markup.paragraph(note),
        markup.trio(*drawn),
        markup.pair(*figures, _numbers(facts.scores_of())),
        *rest,
    ]
    return markup.section("results", "Results", *shown)


def _figure(score: Score) -> str:
    rows = [(method, *measured) for method, measured in score.methods.items() if np.isfinite(measured.value)]
    better = "Lower is better." if score.is_loss else "Higher is better."
    summary = "; ".join(f"{label} {number(value)}" for label, value, _, _ in rows)
    name = f"{score.target}: {score.name}" if score.target else score.name
    drawing = charts.intervals(name, summary, rows)
    return markup.figure(f"{name}{f' ({score.unit})' if score.unit else ''}", drawing, better)


def _numbers(scores: Sequence[Score]) -> str:
    methods = scores[0].methods
    rows = [[method, *(_interval(score.methods[method]) for score in scores)] for method in methods]
    head = ["", *(score.name for score in scores)]
    of = f"{scores[0].target}: metrics" if scores[0].target else "Metrics"
    return markup.figure(f"{of} as numbers", markup.table(head, rows, highlighted=0))


def _interval(measured: Measured) -> markup.Html:
    negligible = 0.1 * (measured.high - measured.low)
    value, low, high = (number(limit if abs(limit) > negligible else 0.0) for limit in measured)
    return markup.Html(f'{value}<br><span class="range">{low} to {high}</span>')


def _classes(facts: Facts) -> tuple[list[str], list[str]]:
    """Return figures, and the parts below them."""
    labels = [class_text(label) for label in facts.signature.classes or ()]
    probabilities, curve = facts.outputs["probabilities"], facts.threshold
    predicted = label_places(probabilities, None if curve is None else curve.decision)
    counts = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(counts, (facts.truth, predicted), 1)
    parts = []
    if len(labels) <= MATRIX_CLASSES:
        right = int(np.trace(counts))
        drawing = heatmap.confusion(
            "Confusion matrix", f"{right} of {counts.sum()} rows are on the diagonal", counts, labels
        )
        parts.append(
            markup.figure(
                "Confusion: true class by row, predicted by column", drawing, "Shade: share of the true class."
            )
        )
    return parts, [_mistakes(counts, labels)] if len(labels) > 3 else []


def _mistakes(counts: np.ndarray, labels: list[str]) -> str:
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MISTAKES]
    places = [divmod(int(place), len(labels)) for place in order]
    rows = [
        (labels[a], labels[b], wrong[a, b], percent(wrong[a, b] / counts[a].sum())) for a, b in places if wrong[a, b]
    ]
    head = ("true class", "predicted as", "rows", "share of the class")
    return markup.folded("Most frequent mistakes", markup.table(head, rows, numbers=(2, 3)))


def _values(facts: Facts) -> tuple[list[str], list[str]]:
    """Return figures, and the parts below them: each of several targets has its own."""
    targets = facts.signature.targets
    if targets is None:
        return _residuals(facts.signature.target or "", facts.outputs["value"][:, 0], facts.truth), []
    parts = []
    for place, target in enumerate(targets):
        scores = facts.scores_of(target)
        figures = _residuals(target, facts.outputs["value"][:, place], facts.truth[:, place], f"{target}: ")
        parts += [markup.trio(*map(_figure, scores)), markup.pair(*figures, _numbers(scores))]
    return [], parts


def _residuals(target: str, values: np.ndarray, truth: np.ndarray, named: str = "") -> list[str]:
    """Return the figures of one target's values [rows] and its truth [rows]; their titles begin with `named`."""
    predicted = values.astype(np.float64)
    low, high = np.quantile(np.concatenate([predicted, truth]), (0.002, 0.998))
    edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
    counts = np.histogram2d(predicted, truth, (edges, edges))[0]
    axes = Axes(
        f"{named}Predicted against true",
        "shaded by the number of rows; correct predictions lie on the diagonal",
        f"predicted {target}",
        f"true {target}",
    )
    error = predicted - truth
    reach = float(np.quantile(np.abs(error), 0.99)) or 1.0
    heights, sides = np.histogram(np.clip(error, -reach, reach), np.linspace(-reach, reach, BINS))
    middle = f"half of the errors are within ±{number(float(np.quantile(np.abs(error), 0.5)))}"
    residuals = charts.columns(Axes(f"{named}Errors", middle, "predicted minus true", "rows"), heights, sides)
    return [
        markup.figure(
            f"{named}Predicted against true",
            heatmap.density(axes, counts, edges, edges),
            "Shade: number of rows; the outermost 0.2 % are left out.",
        ),
        markup.figure(
            f"{named}Errors", residuals, f"{middle[0].upper()}{middle[1:]}; the largest 1 % are in the outermost bars."
        ),
    ]
