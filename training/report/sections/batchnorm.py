"""What no other report shows: batch norm as it was trained and as it is frozen, the same bits, and how to serve."""

import json

import numpy as np

from batchproof.training.export.compile import NormStatistics
from batchproof.training.report import markup as blocks
from batchproof.training.report.charts import svg as charts
from batchproof.training.report.charts.scale import number, thinned
from batchproof.training.report.charts.svg import Axes
from batchproof.training.report.facts import Facts

POINTS = 200  # channels drawn a layer
LAYERS = 6


def norms_section(facts: Facts) -> str:
    """Compare running with recomputed statistics, layer by layer."""
    said = (
        "Training leaves running averages over recent batches. Serving normalises by the population instead: each "
        "channel's mean and variance over all training rows, recomputed layer by layer in float64 and folded into the "
        "weights. Each point is a channel; at the crossing both agree."
    )
    if not facts.norms:
        return blocks.section("norms", "Batch norm", blocks.paragraph("The network has no hidden layer."))
    figures = [_layer(number_, found) for number_, found in enumerate(facts.norms[:LAYERS], 1)]
    rows = [_numbers(number_, found) for number_, found in enumerate(facts.norms, 1)]
    head = ("layer", "channels", "mean off by, median", "at most", "spread ratio, from", "to")
    return blocks.section(
        "norms",
        "Batch norm",
        blocks.paragraph(said),
        blocks.pair(*figures),
        blocks.table(head, rows, numbers=range(1, 6)),
    )


def shifts(found: NormStatistics) -> tuple[np.ndarray, np.ndarray]:
    """Return how far each running mean is off, in standard deviations, and running over recomputed spread [channels]."""
    spread = np.sqrt(np.maximum(found.var, np.finfo(np.float64).tiny))
    moving = found.var > 1e-12  # a channel that never varies has no spread to compare with
    ratio = np.where(moving, np.sqrt(found.running_var) / spread, 1.0)
    return np.where(moving, (found.running_mean - found.mean) / spread, 0.0), ratio


def _layer(number_: int, found: NormStatistics) -> str:
    mean, ratio = shifts(found)
    places = thinned(mean, POINTS)
    axes = Axes(
        f"Layer {number_}",
        f"running means are off by {number(float(np.median(np.abs(mean))))} standard deviations in the median",
        "running less recomputed mean, in sd",
        "running / recomputed spread",
    )
    drawing = charts.dots(axes, mean[places].tolist(), ratio[places].tolist(), (0.0, 1.0))
    return blocks.figure(f"Layer {number_}: running against recomputed", drawing)


def _numbers(number_: int, found: NormStatistics) -> tuple[object, ...]:
    mean, ratio = shifts(found)
    off = np.abs(mean)
    return (
        number_,
        len(mean),
        f"{np.median(off):.3g} sd",
        f"{off.max():.3g} sd",
        f"{ratio.min():.3g}",
        f"{ratio.max():.3g}",
    )


def sameness_section(facts: Facts) -> str:
    """Return parity of the stages and what the check of batch invariance found."""
    parity = facts.content["provenance"]["parity"]
    stages = {
        "fold": "batch norm folded into the weights, against torch in float64",
        "engine": "the served graph on its engine, against the folded network in float64",
    }
    rows = [(name, stages.get(name, ""), f"{error:.2g}") for name, error in parity.items()]
    found = facts.verification.as_dict()
    look = "good" if facts.verification.status in ("proved", "verified", "tiled") else "bad"
    said = (
        f'<span class="{look}">{facts.verification.status}</span>: {found["meaning"]}. {found["rows_compared"]:,} rows '
        f"compared in batches of {min(found['batch_sizes'])} to {max(found['batch_sizes']):,}, {found['rows_changed']:,} changed."
    )
    return blocks.section(
        "sameness",
        "The same function, the same bits",
        blocks.paragraph("Each stage was held to the one before it. Differences are in units of the scores' spread."),
        blocks.table(("stage", "what is compared", "greatest difference"), rows, numbers=(2,)),
        blocks.paragraph(
            "Batch invariance on the training machine; a service checks anew on its own host before it is ready."
        ),
        blocks.paragraph(blocks.Html(said)),
    )


def serving_section(facts: Facts) -> str:
    """Return commands that work as they stand."""
    name = facts.content["name"]
    body = json.dumps({"rows": [facts.example]}, ensure_ascii=False).replace("'", "'\\''")
    extras = {"coverage": 0.9} if facts.content["uncertainty"] else {}
    asked = json.dumps({"rows": [facts.example], **extras, "explain": True}, ensure_ascii=False).replace("'", "'\\''")
    address = f"http://127.0.0.1:8000/models/{name}/predict"
    return blocks.section(
        "serving",
        "Serve it",
        blocks.paragraph("In the folder that holds the models folder; the row is a synthetic one."),
        blocks.code(f"batchproof serve --models models --port 8000\n\ncurl {address} -d '{body}'"),
        blocks.paragraph("With its uncertainty and each feature's contribution:"),
        blocks.code(f"curl {address} -d '{asked}'"),
    )
