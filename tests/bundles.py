"""Small hand-made bundles: random weights, every kind of feature, no training and no torch."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from batchproof.service.bundle.files.checksum import BLANK, seal
from batchproof.service.bundle.manifest import FORMAT, FORMAT_VERSION, QUANTILE_VERSION, TARGETS_VERSION
from batchproof.service.bundle.signature import Signature
from batchproof.service.features.row_encoder import Encoder
from batchproof.service.inference.engine import Engine, EngineOptions
from batchproof.training.export import reference
from batchproof.training.preprocessing.onnx_graph import Graph, TensorProto

CLASSES = {"binary": ["no", "yes"], "multiclass": ["red", "green", "blue"], "regression": None}
Content = dict[str, Any]

INPUTS = [
    {"name": "length_mm", "kind": "numeric", "value_type": "float", "missing": True, "range": [30.0, 60.0]},
    {"name": "island", "kind": "categorical", "value_type": "string", "missing": True, "categories": ["Oslo", "Ærø"]},
    {"name": "count", "kind": "numeric", "value_type": "integer", "missing": False, "range": [0, 9]},
    {"name": "seen", "kind": "date", "value_type": "date", "missing": True, "range": [1.0e9, 1.7e9]},
    {"name": "adult", "kind": "numeric", "value_type": "boolean", "missing": False, "range": [0, 1]},
    {"name": "grade", "kind": "categorical", "value_type": "integer", "missing": False, "categories": ["1", "2", "-3"]},
    {"name": "owned", "kind": "categorical", "value_type": "boolean", "missing": True, "categories": ["false", "true"]},
]


NUMBERS = [  # rows of these may come as one matrix
    {"name": f"f{place}", "kind": "numeric", "value_type": "float", "missing": place > 2, "range": [-1.0, 1.0]}
    for place in range(5)
]


def signature_of(
    task: str = "multiclass", inputs: list[Content] | None = None, targets: tuple[str, ...] = ()
) -> Signature:
    """Return the signature as the service reads it."""
    return Signature.model_validate(_signature(task, inputs, targets))


def _signature(task: str, inputs: list[Content] | None, targets: tuple[str, ...]) -> Content:
    named: Content = {"targets": list(targets)} if targets else {"target": "colour"}
    return {"inputs": inputs or INPUTS, **named, "classes": CLASSES[task]}


def random_rows(signature: Signature, rows: int, seed: int = 0) -> list[list[Any]]:
    """Return rows of JSON values in signature order, missing and unseen values among them."""
    rng = np.random.default_rng(seed)
    return [[_random_value(feature, rng) for feature in signature.inputs] for _ in range(rows)]


def _random_value(feature: Any, rng: np.random.Generator) -> Any:
    if feature.missing and rng.random() < 0.15:
        return None
    low, high = feature.range or (0.0, 1.0)
    if feature.kind == "date":
        return str(np.datetime64(int(rng.uniform(low, high)), "s")) + "Z"
    if feature.kind == "categorical":
        text = [*feature.categories, {"integer": "77", "boolean": "true"}.get(feature.value_type, "elsewhere")]
        chosen = text[rng.integers(len(text))]
        return {"string": str, "integer": int, "boolean": "true".__eq__}[feature.value_type](chosen)
    drawn = rng.uniform(low, high)
    return {"float": float(drawn), "integer": round(drawn), "boolean": bool(drawn > 0.5)}[feature.value_type]


def network(
    task: str = "multiclass",
    *,
    saturated: bool = False,
    hidden: int = 16,
    seed: int = 0,
    inputs: list[Content] | None = None,
    levels: int = 0,
    targets: int = 1,
) -> Graph:
    """Return a graph for the signature: impute, standardise, embed, one hidden layer, softmax or value with quantiles."""
    signature, rng, graph = signature_of(task, inputs), np.random.default_rng(seed), Graph()
    parts = [_numbers(graph, signature)]
    codes = graph.input("categorical", TensorProto.INT64, len(signature.categorical)) if signature.categorical else ""
    for place, feature in enumerate(signature.categorical):
        table = graph.constant(f"{feature.name}_table", rng.normal(size=(len(feature.categories or ()) + 2, 3)))
        code = graph.add(
            "Gather", [codes, graph.constant(f"{feature.name}_column", place)], f"{feature.name}_code", axis=1
        )
        parts.append(graph.add("Gather", [table, code], f"{feature.name}_embedded", axis=0))
    x = graph.add("Cast", [graph.add("Concat", parts, "x", axis=1)], "x_float32", to=TensorProto.FLOAT)
    width = len(signature.numeric) + 3 * len(signature.categorical)
    x = graph.add("Relu", [_linear(graph, rng, x, width, hidden, "hidden")], "hidden_relu")
    outputs = len(signature.classes or range(targets)) + levels
    scores = _linear(graph, rng, x, hidden, outputs, "head")
    if signature.classes is None:
        from batchproof.training.export.float32 import emit_column, emit_sorted  # it brings pandas

        graph.output("value", emit_column(graph, scores) if levels else scores, TensorProto.FLOAT, targets)
        if levels:
            graph.output("quantiles", emit_sorted(graph, scores, levels), TensorProto.FLOAT, levels)
    else:
        graph.output("probabilities", graph.add("Softmax", [scores], "softmax", axis=1), TensorProto.FLOAT, outputs)
        graph.output("scores", scores, TensorProto.FLOAT, outputs)
    if saturated:
        first = graph.add("Gather", [scores, graph.constant("first", np.array([0]))], "first_score", axis=1)
        beyond = graph.add("Greater", [first, graph.constant("bound", 1.0, np.float32)], "beyond")
        graph.output("saturated", beyond, TensorProto.BOOL, 1)
    return graph


def _numbers(graph: Graph, signature: Signature) -> str:
    numeric = graph.input("numeric", TensorProto.DOUBLE, len(signature.numeric))
    middle = np.array([sum(feature.range or (0.0, 0.0)) / 2 for feature in signature.numeric])
    spread = np.array(
        [(feature.range or (0.0, 1.0))[1] - (feature.range or (0.0, 1.0))[0] for feature in signature.numeric]
    )
    mean = graph.constant("mean", middle)
    known = graph.add("Where", [graph.add("IsNaN", [numeric], "is_missing"), mean, numeric], "known")
    centred = graph.add("Sub", [known, mean], "centred")
    scaled = graph.add("Mul", [centred, graph.constant("scale", 1 / spread)], "scaled")
    return graph.add("Clip", [scaled, graph.constant("low", -4.0), graph.constant("high", 4.0)], "clipped")


def _linear(graph: Graph, rng: np.random.Generator, x: str, width: int, outputs: int, name: str) -> str:
    weight = graph.constant(f"{name}_weight", rng.normal(size=(width, outputs)) / np.sqrt(width), np.float32)
    bias = graph.constant(f"{name}_bias", rng.normal(size=outputs), np.float32)
    return graph.add("Gemm", [x, weight, bias], name)


def make_kinds(models: Path) -> Path:
    """Write a model of every kind of feature, one whose rows are a matrix, and a regression; returns `models`."""
    make_bundle(models, "flowers")
    make_bundle(models, "numbers", inputs=NUMBERS)
    make_bundle(models, "price", task="regression", inputs=NUMBERS)
    return models


def make_bundle(
    models: Path,
    name: str = "flowers",
    version: int = 1,
    task: str = "multiclass",
    arithmetic: str = "float32",
    graph: Graph | None = None,
    seed: int = 0,
    inputs: list[Content] | None = None,
    *,
    reference_rows: int = 0,
    quantiles: tuple[float, ...] = (),
    targets: tuple[str, ...] = (),
) -> Path:
    """Write a bundle to models/<name>/<version> and return its folder.

    With `reference_rows` it has the statistics of so many random rows; a regression may have `quantiles`, or several `targets`.
    """
    signature = signature_of(task, inputs, targets)
    exact = arithmetic == "exact"
    sizes = {"levels": len(quantiles), "targets": len(targets or "1")}
    made = graph or network(task, saturated=exact, seed=seed, inputs=inputs, **sizes)
    model = made.model(name).SerializeToString()
    rows = random_rows(signature, 40, seed)
    outputs = Engine(model, EngineOptions(device="cpu")).run(Encoder(signature).encode_rows(rows).arrays)
    folder = models / name / str(version)
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model)
    (folder / "golden.json").write_text(
        json.dumps({"rows": rows, "outputs": {k: _stored(v) for k, v in outputs.items()}})
    )
    (folder / "report.html").write_text("<!doctype html><title>report</title>")
    if reference_rows:
        train = Encoder(signature).encode_rows(random_rows(signature, reference_rows, seed + 1)).arrays
        outputs = Engine(model, EngineOptions(device="cpu")).run(train)
        (folder / "reference.json").write_bytes(reference.serialise(signature, train, outputs, rare_rows=1))
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "sha256": BLANK,
        "name": name,
        "version": version,
        "task": task,
        "signature": _signature(task, inputs, targets),
        "arithmetic": {"kind": arithmetic},
        "files": {},
        "metrics": {"rows": 100, "log_loss": 0.25},
        "provenance": {"seed": seed},
        **({"format_version": QUANTILE_VERSION, "quantiles": list(quantiles)} if quantiles else {}),
        **({"format_version": TARGETS_VERSION} if targets else {}),
    }
    (folder / "bundle.json").write_text(json.dumps(content))
    reseal(folder)
    return folder


def _stored(array: np.ndarray) -> Content:
    little = array.astype(array.dtype.newbyteorder("<"))
    return {"dtype": str(array.dtype), "shape": list(array.shape), "hex": little.tobytes().hex()}


def reseal(folder: Path, edit: Callable[[Content], object] | None = None) -> None:
    """Write bundle.json anew: right digests for the files that are there, `edit` applied, sealed."""
    content = json.loads((folder / "bundle.json").read_bytes())
    content["files"] = {
        path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
        for path in sorted(folder.iterdir())
        if path.name not in ("bundle.json", "model.sig")
    }
    if edit is not None:
        edit(content)
    (folder / "bundle.json").write_bytes(seal(content))
