"""The models that are measured, as genuine bundles, and one plain ONNX file of the same network for the peers.

    python -m bench.make_model build/bench

`reference` is 32-256-256-128-3 with softmax, float32: 107 000 weights, what a table of 32 features gets.
`mixed` has 24 numeric and 8 categorical features before the same hidden layers. `heavy` costs about sixty times as
much a row: the overload benchmark saturates it at a request rate that a client on the same machine can multiply by ten.
"""

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from batchproof.service.bundle.files.checksum import BLANK, seal
from batchproof.service.bundle.manifest import Manifest
from batchproof.training.preprocessing.onnx_graph import Graph, TensorProto

Floats = npt.NDArray[np.floating[Any]]

HIDDEN = (256, 256, 128)
HEAVY_HIDDEN = (2048, 2048, 1024)
CLASSES = ("low", "middle", "high")
CATEGORIES = ("amber", "blue", "coral", "denim", "ebony", "fawn")
FLOAT32 = {"kind": "float32"}
GOLDEN_ROWS = 48
SEED = 7


@dataclass(frozen=True)
class Shape:
    """A model by its name, its inputs and its hidden layers."""

    name: str
    numeric: int
    categorical: int
    hidden: tuple[int, ...]

    def features(self) -> list[dict[str, Any]]:
        """Return the signature's inputs: f00, f01 and so on, then c00, c01 and so on."""
        numeric = [
            {"name": f"f{i:02d}", "kind": "numeric", "value_type": "float", "missing": False, "range": (-4.0, 4.0)}
            for i in range(self.numeric)
        ]
        categorical = [
            {
                "name": f"c{i:02d}",
                "kind": "categorical",
                "value_type": "string",
                "missing": True,
                "categories": CATEGORIES,
            }
            for i in range(self.categorical)
        ]
        return numeric + categorical


REFERENCE = Shape("reference", 32, 0, HIDDEN)
MIXED = Shape("mixed", 24, 8, HIDDEN)
HEAVY = Shape("heavy", 32, 0, HEAVY_HIDDEN)


def rows_of(shape: Shape, count: int, seed: int) -> list[list[float | str]]:
    """Draw `count` rows in signature order: normal numbers of six decimals, categories uniform."""
    rng = np.random.default_rng(seed)
    numbers = np.round(rng.standard_normal((count, shape.numeric)), 6).tolist()
    codes = rng.integers(len(CATEGORIES), size=(count, shape.categorical)).tolist()
    return [row + [CATEGORIES[code] for code in mine] for row, mine in zip(numbers, codes, strict=True)]


def arrays_of(shape: Shape, rows: Sequence[Sequence[float | str]]) -> dict[str, npt.NDArray[Any]]:
    """Return the graph inputs of `rows`: numeric [rows, F] float64, categorical [rows, C] int64."""
    arrays: dict[str, npt.NDArray[Any]] = {
        "numeric": np.array([row[: shape.numeric] for row in rows], dtype=np.float64)
    }
    if shape.categorical:
        codes = [[CATEGORIES.index(str(value)) for value in row[shape.numeric :]] for row in rows]
        arrays["categorical"] = np.array(codes, dtype=np.int64)
    return arrays


def build(shape: Shape) -> onnx.ModelProto:
    """Return the serving graph: numeric [rows, F] float64 (and codes) to probabilities and scores [rows, 3] float32."""
    graph = Graph()
    x = graph.add("Cast", [graph.input("numeric", TensorProto.DOUBLE, shape.numeric)], "features", to=TensorProto.FLOAT)
    if shape.categorical:
        x = graph.add("Concat", [x, *_one_hot(graph, shape)], "encoded", axis=1)
    width = shape.numeric + shape.categorical * (len(CATEGORIES) + 2)
    _finish(graph, _dense(graph, x, (width, *shape.hidden, len(CLASSES))))
    return graph.model(shape.name)


def build_plain() -> onnx.ModelProto:
    """Return the reference network with the input x [rows, 32] float32, as the peers take it."""
    graph = Graph()
    sizes = (REFERENCE.numeric, *REFERENCE.hidden, len(CLASSES))
    scores = _dense(graph, graph.input("x", TensorProto.FLOAT, REFERENCE.numeric), sizes)
    graph.output("y", graph.add("Softmax", [scores], "softmax", axis=1), TensorProto.FLOAT, len(CLASSES))
    return graph.model("reference_plain")


def write_bundle(shape: Shape, models: Path, model: bytes, arithmetic: dict[str, Any] = FLOAT32) -> None:
    """Write models/<name>/1 with the graph `model`."""
    folder = models / shape.name / "1"
    folder.mkdir(parents=True, exist_ok=True)
    rows = rows_of(shape, GOLDEN_ROWS, SEED + 1)
    outputs = run(model, arrays_of(shape, rows))
    files = {
        "model.onnx": model,
        "golden.json": json.dumps({"rows": rows, "outputs": {k: _bits(v) for k, v in outputs.items()}}).encode(),
        "report.html": b"<!doctype html><title>benchmark</title><p>Random weights: for measuring speed only.</p>\n",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    manifest = _manifest(shape, files, arithmetic).model_dump(exclude={"sha256"})
    (folder / "bundle.json").write_bytes(seal(manifest))


def run(model: bytes, arrays: dict[str, npt.NDArray[Any]]) -> dict[str, Floats]:
    """Run `model` once with one thread; every output by name."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, arrays), strict=True))


def write_all(work: Path) -> None:
    """Write every bundle under work/<name>/ (one models folder each) and work/peer.onnx."""
    for shape in (REFERENCE, MIXED, HEAVY):
        write_bundle(shape, work / shape.name, build(shape).SerializeToString())
    (work / "peer.onnx").write_bytes(build_plain().SerializeToString())


def write_missing(work: Path) -> None:
    """Write every bundle unless an earlier call wrote them."""
    if not (work / "peer.onnx").exists():  # it is written last
        write_all(work)


def _one_hot(graph: Graph, shape: Shape) -> list[str]:
    codes = graph.input("categorical", TensorProto.INT64, shape.categorical)
    table = graph.constant("one_hot", np.eye(len(CATEGORIES) + 2, dtype=np.float32))  # [codes, codes]
    columns = [graph.constant(f"column_{i}", i, np.int64) for i in range(shape.categorical)]
    picked = [graph.add("Gather", [codes, column], "codes_of_column", axis=1) for column in columns]  # [rows] int64
    return [graph.add("Gather", [table, column], "one_hot_of_column", axis=0) for column in picked]


def layers(sizes: Sequence[int]) -> Iterator[tuple[Floats, Floats]]:
    """Draw weight [out, in] and bias [out] float32 of every layer; the same for the same sizes."""
    rng = np.random.default_rng(SEED)
    for inputs, outputs in pairwise(sizes):
        weight = (rng.standard_normal((outputs, inputs)) * np.sqrt(2 / inputs)).astype(np.float32)
        yield weight, (rng.standard_normal(outputs) * 0.1).astype(np.float32)


def _dense(graph: Graph, x: str, sizes: Sequence[int]) -> str:
    """Append Gemm and Relu layers; returns the scores."""
    for index, (weight, bias) in enumerate(layers(sizes)):
        names = [x, graph.constant(f"weight_{index}", weight), graph.constant(f"bias_{index}", bias)]
        x = graph.add("Gemm", names, f"linear_{index}", transB=1)
        if index < len(sizes) - 2:
            x = graph.add("Relu", [x], f"relu_{index}")
    return x


def _finish(graph: Graph, scores: str) -> None:
    softmax = graph.add("Softmax", [scores], "softmax", axis=1)
    graph.output("probabilities", softmax, TensorProto.FLOAT, len(CLASSES))
    graph.output("scores", scores, TensorProto.FLOAT, len(CLASSES))


def _bits(value: Floats) -> dict[str, Any]:
    return {"dtype": str(value.dtype), "shape": list(value.shape), "hex": value.tobytes().hex()}


def _manifest(shape: Shape, files: dict[str, bytes], arithmetic: dict[str, Any]) -> Manifest:
    entries = {name: {"sha256": hashlib.sha256(b).hexdigest(), "bytes": len(b)} for name, b in files.items()}
    return Manifest.model_validate(
        {
            "format": "batchproof-bundle",
            "format_version": 1,
            "sha256": BLANK,
            "name": shape.name,
            "version": 1,
            "task": "multiclass",
            "signature": {"inputs": shape.features(), "target": "level", "classes": CLASSES},
            "arithmetic": arithmetic,
            "files": entries,
            "metrics": {},
            "provenance": {"made_by": "bench/make_model.py", "seed": SEED},
        }
    )


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
