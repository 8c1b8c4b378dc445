"""Batch-norm statistics as trained and as frozen, parity of the stages, batch invariance, and how to serve."""

import json

import numpy as np

from batchproof.training.export.compile import NormStatistics
from batchproof.training.prove.monotone import features as monotone
from batchproof.training.report import markup
from batchproof.training.report.charts import svg as charts
from batchproof.training.report.charts.scale import number, thinned
from batchproof.training.report.charts.svg import Axes
from batchproof.training.report.facts import Facts

POINTS = 200  # channels drawn a layer
LAYERS = 6


def norms_section(facts: Facts) -> str:
    """Compare running with recomputed statistics, layer by layer."""
    introduction = (
        "Training leaves running averages over recent batches. Serving normalises by the population instead: each "
        "channel's mean and variance over all training rows, recomputed layer by layer in float64 and folded into the "
        "weights. Each point is a channel; where the lines cross, both agree."
    )
    if not facts.norms:
        return markup.section("norms", "Batch norm", markup.paragraph("The network has no hidden layer."))
    figures = [_layer(layer, norm) for layer, norm in enumerate(facts.norms[:LAYERS], 1)]
    rows = [_numbers(layer, norm) for layer, norm in enumerate(facts.norms, 1)]
    head = ("layer", "channels", "median shift of mean", "largest shift", "smallest spread ratio", "largest ratio")
    return markup.section(
        "norms",
        "Batch norm",
        markup.paragraph(introduction),
        markup.pair(*figures),
        markup.table(head, rows, numbers=range(1, 6)),
    )


def shifts(norm: NormStatistics) -> tuple[np.ndarray, np.ndarray]:
    """Return how far each running mean is off, in standard deviations, and running over recomputed spread [channels]."""
    spread = np.sqrt(np.maximum(norm.var, np.finfo(np.float64).tiny))
    moving = norm.var > 1e-12  # a channel that never varies has no spread to compare with
    ratio = np.where(moving, np.sqrt(norm.running_var) / spread, 1.0)
    return np.where(moving, (norm.running_mean - norm.mean) / spread, 0.0), ratio


def _layer(layer: int, norm: NormStatistics) -> str:
    mean, ratio = shifts(norm)
    places = thinned(mean, POINTS)
    axes = Axes(
        f"Layer {layer}",
        f"the median shift of the running means is {number(float(np.median(np.abs(mean))))} standard deviations",
        "running minus recomputed mean, in sd",
        "running / recomputed spread",
    )
    drawing = charts.dots(axes, mean[places].tolist(), ratio[places].tolist(), (0.0, 1.0))
    return markup.figure(f"Layer {layer}: running against recomputed", drawing)


def _numbers(layer: int, norm: NormStatistics) -> tuple[object, ...]:
    mean, ratio = shifts(norm)
    off = np.abs(mean)
    return (
        layer,
        len(mean),
        f"{np.median(off):.3g} sd",
        f"{off.max():.3g} sd",
        f"{ratio.min():.3g}",
        f"{ratio.max():.3g}",
    )


def parity_section(facts: Facts) -> str:
    """Return the parity of the stages and the result of the batch-invariance check."""
    parity = facts.content["provenance"]["parity"]
    stages = {
        "fold": "the folded network against torch, in float64",
        "engine": "the served graph on its engine against the folded network in float64",
    }
    rows = [(name, stages.get(name, ""), f"{error:.2g}") for name, error in parity.items()]
    verdict = facts.verification.as_dict()
    look = "good" if facts.verification.status in ("proved", "verified", "tiled") else "bad"
    result = (
        f'<span class="{look}">{facts.verification.status}</span>: {verdict["meaning"]}. {verdict["rows_compared"]:,} rows '
        f"compared in batches of {min(verdict['batch_sizes'])} to {max(verdict['batch_sizes']):,}, {verdict['rows_changed']:,} changed."
    )
    return markup.section(
        "parity",
        "Parity and batch invariance",
        markup.paragraph(
            "Each stage was compared with the one before it. Differences are in units of the scores' spread."
        ),
        markup.table(("stage", "comparison", "largest difference"), rows, numbers=(2,)),
        *_monotone(facts),
        markup.paragraph(
            "Batch invariance on the training machine; each service checks again on its own host before it is ready."
        ),
        markup.paragraph(markup.Html(result)),
    )


def _monotone(facts: Facts) -> list[str]:
    """Return the monotone constraints and how they were checked; nothing where there are none."""
    constraints = monotone.read(facts.content["provenance"])
    ways = {"never falls": 1, "never rises": -1}
    told = {way: [name for name, each in constraints.items() if each == direction] for way, direction in ways.items()}
    classes = facts.signature.classes
    answer = "value" if classes is None else f"probability of {classes[-1]}"
    rows = [
        (f"the {answer} {way}", "where one of these grows", ", ".join(names)) for way, names in told.items() if names
    ]
    if not rows:
        return []
    how = (
        "Monotone constraints, proved from the signs of the weights and from the operators of the graph that is served:"
    )
    return [
        markup.paragraph(how),
        markup.table(("answer", "", "features"), rows),
        markup.paragraph(monotone.CLAIM, "soft"),
    ]


def serving_section(facts: Facts) -> str:
    """Return commands that work as they are."""
    name = facts.content["name"]
    body = json.dumps({"rows": [facts.example]}, ensure_ascii=False).replace("'", "'\\''")
    extras = {"coverage": 0.9} if facts.content["uncertainty"] else {}
    detailed = json.dumps({"rows": [facts.example], **extras, "explain": True}, ensure_ascii=False).replace(
        "'", "'\\''"
    )
    address = f"http://127.0.0.1:8000/models/{name}/predict"
    return markup.section(
        "serving",
        "Serving",
        markup.paragraph("Run this in the folder that contains the folder models; the row is synthetic."),
        markup.code(f"batchproof serve --models models --port 8000\n\ncurl {address} -d '{body}'"),
        markup.paragraph("With the uncertainty and the contribution of each feature:"),
        markup.code(f"curl {address} -d '{detailed}'"),
    )
