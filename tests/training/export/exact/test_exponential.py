"""The exact exponential is that of float64 before the last Cast, over its whole reach and not beyond."""

import numpy as np
import pytest

from batchproof.service.inference.engine import Engine, EngineOptions
from batchproof.training.export.exact.exponential import emit_exp
from batchproof.training.preprocessing.onnx_graph import Graph, TensorProto


def exp(scores: np.ndarray, limits: tuple[float, float], factor: float) -> np.ndarray:
    """Run the graph's exponential in float64 on scores [rows]."""
    graph = Graph()
    source = graph.input("numeric", TensorProto.DOUBLE, 1)
    graph.output("e", emit_exp(graph, source, limits, factor), TensorProto.DOUBLE, 1)
    engine = Engine(graph.model("exp").SerializeToString(), EngineOptions(device="cpu"), ["numeric"])
    return np.asarray(engine.run([scores[:, None]])["e"])[:, 0]


@pytest.mark.parametrize(("limits", "factor"), [((-40.0, 40.0), 3.25), ((-40.0, 18.0), 1e30), ((-16.0, 40.0), 1e-30)])
def test_along_the_reach(limits: tuple[float, float], factor: float) -> None:
    """On the steps of the table and between them, the relative error stays below 2e-11."""
    scores = np.arange(limits[0], limits[1], 1.0 / 1536)
    wanted = factor * np.exp(scores.astype(np.longdouble))
    assert np.abs(exp(scores, limits, factor) / wanted - 1).max() < 2e-11


def test_beyond_the_reach() -> None:
    """A score outside the limits reads as if at the limit."""
    found = exp(np.array([-1e300, -40.0, 40.0, 1e300]), (-40.0, 40.0), 2.0)
    assert found[0] == found[1]
    assert found[2] == found[3]
