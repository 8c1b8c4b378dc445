"""A bundle's model card: Markdown under the metadata that the Hugging Face Hub reads, made from bundle.json."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from batchproof.service.bundle.documents import escaping
from batchproof.service.bundle.documents.escaping import code, table, text
from batchproof.service.bundle.documents.statement import (
    HUB_LICENCES,
    UNSAID,
    Statement,
    limits,
    mapping,
    stated_at_training,
    warnings,
)
from batchproof.service.bundle.manifest import Manifest
from batchproof.service.bundle.signature import Feature, class_text

TASKS = {
    "binary": "tabular-classification",
    "multiclass": "tabular-classification",
    "regression": "tabular-regression",
}
METRICS = {  # in bundle.json -> the Hub's identifier, and a name
    "accuracy": ("accuracy", "Accuracy"),
    "auc": ("roc_auc", "AUC"),
    "log_loss": ("log_loss", "Log loss (nats)"),
    "poisson_deviance": ("mean_poisson_deviance", "Mean Poisson deviance"),
    "gamma_deviance": ("mean_gamma_deviance", "Mean gamma deviance"),
    "standardised_rmse": ("standardized_rmse", "RMSE in standard deviations, over all targets"),
    "rmse": ("rmse", "RMSE"),
    "pinball": ("mean_pinball_loss", "Mean pinball loss of the quantiles"),
    "mae": ("mae", "MAE"),
    "r2": ("r_squared", "R²"),
    "calibration_error": ("expected_calibration_error", "Expected calibration error"),
}
SHOWN_COVERAGES = ("0.5", "0.8", "0.9", "0.95", "0.99")
MOST_FEATURES = 200
MOST_NAMES = 8  # classes, categories
CONFIDENCE = 0.95  # of the intervals in `metrics`


def model_card(manifest: Manifest, statement: Statement | None = None, address: str = "") -> str:
    """Return the card; equal bundles, statements and addresses have equal ones.

    `statement` has precedence over what was stated when the model was trained. `address` is where the bundle will be.
    """
    content = manifest.model_dump()
    stated = (statement or Statement()).or_else(stated_at_training(content))
    parts = (
        _head(manifest),
        _uses(stated),
        _numbers(content),
        _uncertainty(content),
        _limits(content),
        _data(content),
        _features(manifest),
        _usage(manifest, address),
    )
    lines = ["---", *escaping.block(metadata(content, stated)), "---", "", *(line for part in parts for line in part)]
    return "\n".join(lines).rstrip("\n") + "\n"


def metadata(content: Mapping[str, Any], stated: Statement) -> dict[str, Any]:
    """Return the metadata of the card: licence, library, task, tags, and the metrics as the Hub's model index."""
    task = TASKS[content["task"]]
    results = list(_results(content))
    index = {
        "name": content["name"],
        "results": [{"task": {"type": task}, "dataset": _dataset(content), "metrics": results}],
    }
    return {
        **_license(stated.license),
        "library_name": "batchproof",
        "pipeline_tag": task,
        "tags": ["batchproof", "onnx", "tabular", "batch-invariant", f"{content['arithmetic']['kind']}-arithmetic"],
        **({"model-index": [index]} if results else {}),
    }


def _license(stated: str) -> dict[str, str]:
    if not stated:
        return {}
    identifier = stated.strip().lower()
    if identifier in HUB_LICENCES:
        return {"license": identifier}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.-]+", "-", identifier).strip("-") or "other"}


def _dataset(content: Mapping[str, Any]) -> dict[str, Any]:
    data = mapping(mapping(content, "provenance"), "data")
    sha256 = data.get("sha256")
    return {
        "type": "tabular",
        "name": str(data.get("file") or "training data"),
        "split": str(content["metrics"].get("part", "test")),
        **({"args": {"sha256": sha256}} if isinstance(sha256, str) else {}),
    }


def _results(content: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for of, metrics in _measured_parts(content["metrics"]):
        for name, value, interval in _measured(metrics):
            identifier, shown = METRICS[name]
            args = {"interval": list(interval), "confidence": CONFIDENCE} if interval else {}
            yield {"type": identifier, "value": value, "name": shown + of, **({"args": args} if args else {})}


def _measured_parts(metrics: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Give the metrics, and those of each of several targets, with what the name of a metric is followed by."""
    yield "", metrics
    for target, own in mapping(metrics, "targets").items():
        if isinstance(own, Mapping):
            yield f" of {target}", own


def _measured(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float, tuple[float, float] | None]]:
    """Give each known metric with its interval, where it has one."""
    intervals = mapping(metrics, "intervals")
    for name in METRICS:
        value, interval = metrics.get(name), intervals.get(name)
        if isinstance(value, int | float) and _is_number(value):
            pair = interval if isinstance(interval, list) and all(map(_is_number, interval)) else []
            yield name, value, (pair[0], pair[1]) if len(pair) == 2 else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _head(manifest: Manifest) -> list[str]:
    signature, classes = manifest.signature, manifest.signature.classes
    what = "a number" if classes is None else f"one of {len(classes)} classes ({_names(map(class_text, classes))})"
    if signature.targets is not None:
        what = f"{len(signature.targets)} numbers"
    count = len(signature.inputs)
    features = f"{count} feature{'s' if count > 1 else ''}"
    summary = (
        f"Predicts {_names(signature.target_names)}, {what}, from {features}. A multilayer perceptron with batch normalization, "
        f"folded into one ONNX graph in {manifest.arithmetic.kind} arithmetic. Each row gets the same prediction, bit for "
        "bit, whatever it is batched with."
    )
    return [
        f"# {text(manifest.name)}, version {manifest.version}",
        "",
        summary,
        "",
        f"Seal of the bundle (`sha256` in bundle.json): `{manifest.sha256}`",
        "",
    ]


def _names(names: Any) -> str:
    listed = list(names)
    more = f" and {len(listed) - MOST_NAMES} more" if len(listed) > MOST_NAMES else ""
    return ", ".join(code(name) for name in listed[:MOST_NAMES]) + more


def _uses(stated: Statement) -> list[str]:
    lines = []
    for heading, words in stated.lines():
        shown = "_Not stated by the author._" if words == UNSAID else text(words)
        lines += [f"## {heading}", "", shown, ""]
    return lines


def _numbers(content: Mapping[str, Any]) -> list[str]:
    """Return the metrics beside those of a constant prediction."""
    metrics, rows = content["metrics"], []
    for of, own in _measured_parts(metrics):
        for name, value, interval in _measured(own):
            constant = own.get(f"constant_{name}")
            low_high = f"{interval[0]:.4g} to {interval[1]:.4g}" if interval else ""
            shown = text(METRICS[name][1] + of)
            rows.append([shown, f"{value:.4g}", low_high, f"{constant:.4g}" if _is_number(constant) else ""])
    if not rows:
        return ["## Metrics", "", "The bundle states none.", ""]
    count, part = metrics.get("rows"), text(metrics.get("part", "test"))
    measured = f"Measured on {count:,} {part} rows" if isinstance(count, int) else f"Measured on {part} rows"
    head = ["metric", "value", "95 % interval", "constant prediction"]
    return ["## Metrics", "", f"{measured} with the graph that is served.", "", *table(head, rows), ""]


def _uncertainty(content: Mapping[str, Any]) -> list[str]:
    each = content.get("uncertainties")
    found = each or [content.get("uncertainty")]
    if not found[0]:
        return []
    signature = content["signature"]
    is_value = signature["classes"] is None
    size = "width" if is_value else "size"
    targets = signature.get("targets") or [""]
    rows = [
        [*([code(target)] if target else []), *_covered(coverage, result, size)]
        for target, one in zip(targets, found, strict=True)
        for coverage, result in one["tested"].items()
        if coverage in SHOWN_COVERAGES and {"coverage", size} <= result.keys()
    ]
    head = ["requested coverage", "measured coverage", "mean width" if is_value else "mean classes in a set"]
    kind = "intervals, one for each target," if each else "intervals" if is_value else "sets of classes"
    rows_of = f"{found[0]['calibration_rows']:,} validation rows"
    sentence = f'A request with `"coverage": 0.9` gets prediction {kind} (split conformal, thresholds from {rows_of}).'
    if each:
        head = ["target", *head]
        sentence += " The coverage is that of each target by itself; all intervals of a row hold together less often."
    return ["## Uncertainty", "", sentence, "", *(table(head, rows) if rows else []), ""]


def _covered(coverage: str, result: Mapping[str, float], size: str) -> list[str]:
    return [f"{100 * float(coverage):.0f} %", f"{100 * result['coverage']:.1f} %", f"{result[size]:.4g}"]


def _limits(content: Mapping[str, Any]) -> list[str]:
    told = [f"- {text(sentence)}" for sentence in limits(content)]
    warned = [f"- Training warned: {text(line)}" for line in warnings(content)]
    return ["## Limits", "", *told, *warned, ""]


def _data(content: Mapping[str, Any]) -> list[str]:
    provenance = mapping(content, "provenance")
    data, split, versions = (mapping(provenance, name) for name in ("data", "split", "versions"))
    rows = [
        *([["file", code(data["file"])]] if "file" in data else []),
        *([["SHA-256", code(data["sha256"])]] if "sha256" in data else []),
        *([["rows", f"{data['rows']:,}"]] if isinstance(data.get("rows"), int) else []),
        *([[f"{text(part)} rows", f"{count:,}"] for part, count in split.items() if isinstance(count, int)]),
        *([["trained", text(provenance["created"])]] if "created" in provenance else []),
        *([[text(name), text(version)] for name, version in versions.items()]),
    ]
    return ["## Training data", "", *table(["", ""], rows), ""] if rows else []


def _features(manifest: Manifest) -> list[str]:
    inputs = manifest.signature.inputs
    rows = [
        [code(feature.name), feature.kind, _values(feature), "yes" if feature.missing else "no"] for feature in inputs
    ]
    more = [f"And {len(inputs) - MOST_FEATURES} more features.", ""] if len(inputs) > MOST_FEATURES else []
    head = ["feature", "kind", "training range or categories", "may be missing"]
    return ["## Features", "", *table(head, rows[:MOST_FEATURES]), "", *more]


def _values(feature: Feature) -> str:
    if feature.categories is not None:
        return f"{len(feature.categories)}: {_names(feature.categories)}"
    if feature.range is None:
        return ""
    return " to ".join(f"{value:.10g}" for value in feature.range)


def _usage(manifest: Manifest, address: str) -> list[str]:
    place = address or f"models/{manifest.name}"
    what = (
        "The first answers over HTTP and gRPC, the second scores a file with the same bits, the third checks batch "
        "invariance on your machine."
    )
    return [
        "## Use",
        "",
        "```sh",
        f"batchproof serve --models {place}",
        f"batchproof predict {place} rows.csv predictions.csv",
        f"batchproof verify {place}",
        "```",
        "",
        what,
    ]
