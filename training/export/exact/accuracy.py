"""Accuracy of an exact graph: how far its outputs are from the folded float64 network, as its bundle states."""

from typing import Any

import numpy as np

from batchproof.service.features.arrays import Arrays, Outputs
from batchproof.service.inference.engine import Engine, EngineOptions
from batchproof.training.network.fold import Output, predictions
from batchproof.training.network.parity import comparable, spread
from batchproof.training.network.weights import Weights
from batchproof.training.preprocessing.onnx_graph import Graph, TensorProto

PIECE_ROWS = 4096  # rows of float64 intermediates held at a time
LEAST_PROBABILITY = 1e-30  # least probability for which the relative error is stated


def reference_scores(weights: Weights, arrays: Arrays) -> np.ndarray:
    """Return the folded network's scores [rows, outputs], float64 from the encoded features on."""
    preprocess, folded = weights.preprocess, weights.folded
    graph = Graph()
    x = preprocess.emit(graph, *preprocess.declare(graph)).x
    graph.output("x", x, TensorProto.DOUBLE, preprocess.width)
    names = [value.name for value in graph.inputs]
    engine = Engine(graph.model("encoding").SerializeToString(), EngineOptions(device="cpu"), names)
    rows = len(next(array for array in arrays if array is not None))
    scores = []
    for start in range(0, rows, PIECE_ROWS):
        piece = arrays.take(slice(start, start + PIECE_ROWS))
        encoded = engine.run([array for array in piece if array is not None])["x"]
        scores.append(folded.scores(encoded, piece.categorical))
    return np.concatenate(scores)


def accuracy(reference: np.ndarray, output: Output, outputs: Outputs, headroom: float) -> dict[str, Any]:
    """Compare exact outputs with the reference scores [rows, outputs]; returns what the manifest states.

    `score_error` is the greatest difference of a score (regression: of the value, or of its logarithm where that was fitted) in units of the scores' standard
    deviation, `probability_relative_error` the greatest relative one of probabilities down to LEAST_PROBABILITY;
    both over the rows that are not saturated.
    """
    saturated = outputs["saturated"][:, 0]
    stated: dict[str, Any] = {
        "reference": "the folded network in float64",
        "rows": len(reference),
        "headroom": headroom,
        "saturated_share": float(saturated.mean()),
    }
    if saturated.all():
        return stated
    if output.task == "regression":
        wanted, actual = comparable(reference, outputs, output)
        return stated | {"score_error": float(np.abs(actual - wanted)[~saturated].max() / spread(wanted))}
    wanted = predictions(reference, output)
    gap = np.abs(outputs["scores"] - reference)[~saturated]
    kept = ~saturated[:, None] & (wanted >= LEAST_PROBABILITY)
    relative = np.abs(outputs["probabilities"][kept] / wanted[kept] - 1.0)
    return stated | {
        "score_error": float(gap.max() / spread(reference)),
        "probability_relative_error": float(relative.max()),
    }
