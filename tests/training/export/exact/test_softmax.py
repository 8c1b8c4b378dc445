"""The exact softmax is the softmax to float64's accuracy before the last Cast, down to probabilities of 1e-34."""

import numpy as np
import pytest

from batchproof.service.inference.engine import Engine, EngineOptions
from batchproof.training.export.exact.softmax import REACH, emit_softmax
from batchproof.training.preprocessing.onnx_graph import Graph, TensorProto

WIDE = np.longdouble


def softmax(scores: np.ndarray) -> np.ndarray:
    """Run the graph's softmax in float64."""
    graph = Graph()
    source = graph.input("numeric", TensorProto.DOUBLE, scores.shape[1])
    graph.output("p", emit_softmax(graph, source, scores.shape[1]), TensorProto.DOUBLE, scores.shape[1])
    engine = Engine(graph.model("softmax").SerializeToString(), EngineOptions(device="cpu"), ["numeric"])
    return np.asarray(engine.run([scores])["p"])


def reference(scores: np.ndarray) -> np.ndarray:
    """Return the softmax in extended precision."""
    e = np.exp(scores.astype(WIDE) - scores.max(axis=1, keepdims=True).astype(WIDE))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("classes", [2, 3, 7, 26, 1000])
@pytest.mark.parametrize("spread", [0.01, 1.0, 10.0, 70.0])
def test_relative_error(classes: int, spread: float) -> None:
    """Every probability down to 1e-30 has a relative error below 2e-11."""
    scores = np.random.default_rng(classes).uniform(-spread / 2, spread / 2, (200, classes))
    wanted = reference(scores)
    kept = wanted >= 1e-30
    assert np.abs(softmax(scores)[kept] / wanted[kept] - 1).max() < 2e-11


def test_every_step_of_the_reach() -> None:
    """Along the whole reach, on the table's entries and between them, the error stays below 2e-11."""
    below = np.arange(0.0, REACH, 1.0 / 512)
    scores = np.stack([np.zeros_like(below), -below], axis=1)
    wanted = reference(scores)
    assert np.abs(softmax(scores) / wanted - 1).max() < 2e-11


def test_beyond_the_reach() -> None:
    """A score farther below than the reach reads as if at the reach: no probability is 0 or subnormal in float32."""
    scores = np.array([[0.0, -float(REACH)], [0.0, -1e4], [5e300, -5e300]])
    found = softmax(scores)
    assert (found[1:] == found[0]).all()
    assert found.astype(np.float32).min() > np.finfo(np.float32).tiny


def test_equal_scores() -> None:
    """Equal scores give equal probabilities."""
    assert (softmax(np.full((3, 4), 123.25)) == 0.25).all()
