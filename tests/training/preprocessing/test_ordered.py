"""Nodes that keep order: close to the functions that they stand for, and never falling from one float to the next."""

from collections.abc import Callable

import numpy as np
import pytest

from batchproof.service.inference.engine import Engine, EngineOptions
from batchproof.training.preprocessing import ordered
from batchproof.training.preprocessing.onnx_graph import Graph, TensorProto

BOUND, FAR = 3.0, 1e6


def run(emit: Callable[[Graph, str], str], x: np.ndarray) -> np.ndarray:
    """Return what the emitted nodes make of x [rows, columns] float64."""
    graph = Graph()
    source = graph.input("numeric", TensorProto.DOUBLE, x.shape[1])
    graph.output("y", emit(graph, source), TensorProto.DOUBLE, x.shape[1])
    engine = Engine(graph.model("nodes").SerializeToString(), EngineOptions(device="cpu"), ["numeric"])
    return engine.run([x])["y"]


def softsign(graph: Graph, source: str) -> str:
    return ordered.emit_softsign(graph, source, BOUND, FAR)


def signed_exp(graph: Graph, source: str) -> str:
    return ordered.emit_signed_exp(graph, source, (-40.0, 40.0))


def neighbours(points: np.ndarray, count: int = 200) -> np.ndarray:
    """Return each point with the floats around it, ascending [points * (2 count + 1)]."""
    steps = np.arange(-count, count + 1)
    return np.unique(points[:, None] + steps * np.spacing(points)[:, None])


POINTS = np.concatenate(
    [np.linspace(-45.0, 45.0, 501), np.random.default_rng(0).normal(size=500) * 20.0, [1e-300, 1e300]]
)


@pytest.mark.parametrize("emit", [softsign, signed_exp])
def test_neighbouring_floats_keep_their_order(emit: Callable[[Graph, str], str]) -> None:
    """From one float to the next, no value falls, and over the range it rises."""
    x = neighbours(POINTS)
    y = run(emit, x[:, None])[:, 0]
    assert (np.diff(y) >= 0.0).all()
    assert len(np.unique(y)) > len(POINTS) / 2


def test_a_quotient_of_two_growing_terms_does_not() -> None:
    """The smooth clip z / sqrt(1 + z^2) falls between neighbouring floats somewhere: so the test above can fail."""
    z = neighbours(POINTS[(np.abs(POINTS) > 5.0) & (np.abs(POINTS) < 50.0)])
    assert (np.diff(z / np.sqrt(1.0 + z * z)) < 0.0).any()


def test_softsign_is_the_formula() -> None:
    """It is z / (1 + |z| / b), within b."""
    z = np.concatenate([np.linspace(-50.0, 50.0, 401), [-1e9, 1e9]])
    y = run(softsign, z[:, None])[:, 0]
    near = np.clip(z, -FAR, FAR)
    assert y == pytest.approx(near / (1.0 + np.abs(near) / BOUND), rel=1e-12, abs=1e-15)
    assert np.abs(y).max() < BOUND


def test_exp_is_close() -> None:
    """The relative error is below 1e-8 within the limits, beyond which it is flat; exp(0) is 1."""
    x = np.linspace(-45.0, 45.0, 2001)
    y = run(signed_exp, x[:, None])[:, 0]
    assert y == pytest.approx(np.exp(np.clip(x, -40.0, 40.0)), rel=1e-8)
    assert run(signed_exp, np.zeros((1, 1)))[0, 0] == 1.0


def test_probabilities_are_the_softmax_in_the_order_of_the_scores() -> None:
    """They add up to 1, agree with softmax to float32's rounding, and move with the difference of the scores, bit for bit."""
    gap = neighbours(np.concatenate([np.linspace(-85.0, 85.0, 301), [0.0]]), 20)
    scores = np.stack([np.full_like(gap, 1.25), gap + 1.25], axis=1)
    p = run(ordered.emit_probabilities, scores)
    wanted = 1.0 / (1.0 + np.exp(-np.clip(scores[:, 1] - scores[:, 0], -80.0, 80.0)))
    assert p[:, 1] == pytest.approx(wanted, rel=1e-8)
    assert p.sum(axis=1) == pytest.approx(1.0, abs=1e-12)
    assert (np.diff(p[:, 1]) >= 0.0).all()
    assert (np.diff(p[:, 0]) <= 0.0).all()
    assert (run(ordered.emit_probabilities, np.full((1, 2), 7.0)) == 0.5).all()
