"""Build an exact model: emit it, prove it from its own bytes, and compare it with the engine's optimised graph."""

from dataclasses import dataclass
from typing import Any

from batchproof.service.features.arrays import Arrays
from batchproof.service.inference.runner import Runner
from batchproof.training.export.exact.accuracy import accuracy, reference_scores
from batchproof.training.export.exact.graph import HEADROOM, exact_graph
from batchproof.training.export.exact.optimiser import check_optimised
from batchproof.training.export.float32 import GRAPH_NAME
from batchproof.training.network.weights import Weights
from batchproof.training.prove import prove


@dataclass(frozen=True)
class Exact:
    """A proved model."""

    model: bytes  # model.onnx, serialised
    certificate: dict[str, Any]
    headroom: float


def build(weights: Weights, headroom: float = HEADROOM) -> Exact:
    """Return the exact model of a folded network with its certificate.

    A hidden channel saturates at `headroom` times its greatest training activation. Raises ProofError where the graph
    is not proved, or where the engine's optimiser would change it: nothing unproved is exported as exact.
    """
    graph = exact_graph(weights.folded, weights.preprocess, weights.maxima, headroom)
    model = graph.model(GRAPH_NAME).SerializeToString()
    certificate = prove(model)
    check_optimised(model)
    return Exact(model, certificate, headroom)


def arithmetic(exact: Exact, weights: Weights, runner: Runner, arrays: Arrays) -> dict[str, Any]:
    """Return the manifest's `arithmetic` of an exact model, its accuracy measured on rows `arrays`."""
    reference = reference_scores(weights, arrays)
    stated = accuracy(reference, weights.folded.output, runner.run([arrays])[0], exact.headroom)
    return {"kind": "exact", "certificate": exact.certificate, "accuracy": stated}
