import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from batchproof.service.features.arrays import Arrays
from batchproof.service.inference.engine import Engine, EngineOptions
from batchproof.training.preprocessing.fitting import Encoding, fit
from batchproof.training.preprocessing.numbers import periodic, piecewise, scaling
from batchproof.training.preprocessing.onnx_graph import Graph, TensorProto

ALL = Encoding(edges="distinct", bins=6, waves=True)
DOUBLES = st.floats(allow_nan=True, allow_infinity=False, width=64)


def encoded(train: np.ndarray, rows: np.ndarray, encoding: Encoding = ALL) -> np.ndarray:
    target = np.arange(len(train), dtype=np.float64)
    return fit(Arrays(train, None), target, classes=False, encoding=encoding).transform(Arrays(rows, None))


@given(arrays(np.float64, (7, 2), elements=DOUBLES), arrays(np.float64, (3, 2), elements=DOUBLES))
def test_every_encoded_value_is_finite_and_within_its_stated_bound(train: np.ndarray, rows: np.ndarray) -> None:
    """Whatever was fitted and whatever comes, NaN and the largest doubles too, x stays within its bounds."""
    train = np.concatenate([train, [[0.0, 1.0], [1.0, 0.0]]])
    target = np.arange(len(train), dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        preprocess = fit(Arrays(train, None), target, classes=False, encoding=ALL)
    x = preprocess.transform(Arrays(rows, None)).astype(np.float64)
    assert np.isfinite(x).all()
    assert (np.abs(x) <= np.nextafter(preprocess.bounds.astype(np.float32), np.float32(9))).all()


def test_smooth_clip_is_the_formula_and_never_loses_the_order_of_values() -> None:
    """Scaling is z / sqrt(1 + (z / b)^2) of the robustly scaled z, rising, and b at most."""
    train = np.linspace(-5.0, 7.0, 101)[:, None]
    rows = np.array([[-1e9], [-3.0], [1.0], [2.5], [1e3], [1e9]])
    x = encoded(train, rows, Encoding(edges=None))[:, 0]
    z = (rows[:, 0] - 1.0) / (6.0 / 1.349)
    assert x == pytest.approx(z / np.sqrt(1 + (z / scaling.BOUND) ** 2), rel=1e-6)
    assert (np.diff(x) > 0).all() or x[-1] == x[-2]


@pytest.mark.parametrize("unit", [1e-250, 1.0, 1e300])
@pytest.mark.parametrize("values", [[1.0, -1.0, 0.5, 0.25, -0.75], [0.0, 0.0, 0.0, 0.0, 1.0]])
def test_the_spread_of_huge_values_does_not_overflow(unit: float, values: list[float]) -> None:
    """A column in other units has its centre and spread in those units, up to 1e300."""
    plain = scaling.fit(np.array(values)[:, None])
    found = scaling.fit(np.array(values)[:, None] * unit)
    assert found.center == pytest.approx(plain.center * unit, rel=1e-12, abs=0)
    assert found.scale == pytest.approx(plain.scale / unit, rel=1e-12, abs=0)


def test_bins_rise_from_zero_to_height_inside_their_edges() -> None:
    """A value between two edges fills the bins below it, its share of its own bin, and none above."""
    bins = piecewise.Piecewise(np.zeros(3, np.int64), np.array([0.0, 1.0, 3.0]), np.array([1.0, 0.5, 1.0]))
    train = np.array([[0.0], [1.0], [3.0], [4.0]])
    preprocess = fit(Arrays(train, None), train[:, 0], classes=False, encoding=Encoding(edges="quantile"))
    assert preprocess.piecewise is not None
    assert preprocess.piecewise.low.tolist() == bins.low.tolist()
    x = preprocess.transform(Arrays(np.array([[2.0], [-9.0], [9.0]]), None))[:, preprocess.bins] / piecewise.HEIGHT
    assert x == pytest.approx(np.array([[1.0, 0.5, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]))


def test_tied_quantiles_are_merged() -> None:
    """A column that is mostly one value keeps strictly rising edges, and the distinct rule keeps more of them."""
    values = np.concatenate([np.zeros(900), np.linspace(1.0, 100.0, 100)])
    by_rows = piecewise.separated(piecewise.quantile_edges(values, 20))
    by_values = piecewise.separated(piecewise.distinct_edges(values, 20))
    assert (np.diff(by_rows) > 0).all()
    assert (np.diff(by_values) > 0).all()
    assert len(by_values) > len(by_rows)


def test_few_distinct_values_are_the_edges() -> None:
    """A column of few whole numbers gets an edge at each of them."""
    values = np.tile([0.0, 1.0, 5.0], 50)
    edges = piecewise.column_edges(values, values, classes=False, bins=8, edges="distinct")
    assert edges.tolist() == [0.0, 1.0, 5.0]


def test_tree_edges_stand_where_the_target_changes() -> None:
    """The target-aware rule puts an edge at a step of the target."""
    values = np.linspace(0.0, 1.0, 400)
    edges = piecewise.column_edges(values, (values > 0.3).astype(np.int64), classes=True, bins=4, edges="tree")
    assert np.abs(edges - 0.3).min() < 0.01


def test_constant_columns_get_no_bin() -> None:
    """One distinct value leaves nothing between edges."""
    assert len(piecewise.fit(np.full((9, 1), 4.0), np.zeros(9), classes=False, bins=4, edges="quantile").column) == 0


def test_waves_repeat_and_follow_a_sine() -> None:
    """The wave of frequency f has the period 1 / f and lies within 0.06 of the sine."""
    waves = periodic.fit(np.arange(1), (1.0,))
    train = np.linspace(-1.0, 1.0, 201)[:, None]
    preprocess = fit(Arrays(train, None), train[:, 0], classes=False, encoding=Encoding(edges=None, waves=True))
    x = preprocess.transform(Arrays(train, None))
    scaled, index = x[:, 0].astype(np.float64), 1 + 2 * periodic.FREQUENCIES.index(1.0)
    assert np.abs(x[:, index] - np.sin(2 * np.pi * scaled)).max() < 0.061
    assert np.abs(x[:, index + 1] - np.cos(2 * np.pi * scaled)).max() < 0.061
    assert waves.bounds.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("unit", [1e-200, 1e-30, 1e-12, 1.0, 1e12, 1e30, 1e200])
def test_scaling_is_the_same_in_any_unit(unit: float) -> None:
    """Distances are squared as they are or scaled before, whichever does not leave float64: the result is the same."""
    train = np.linspace([-5.0, 2.0], [7.0, 1.0], 101)
    rows = np.array([[-1e90, 2.0], [-3.0, 1.7], [1.0, 1.5], [2.5, 0.0], [1e3, -1e3], [1e90, -1e90]])
    plain = encoded(train, rows)
    found = encoded(train * unit, rows * unit)
    assert found == pytest.approx(plain, rel=1e-6, abs=1e-6)
    assert found[0, 0] == -found[-1, 0] == -scaling.BOUND


def test_bins_far_from_zero_are_subtracted_first() -> None:
    """Where one product would lose the difference of large numbers, the graph that need not be exact takes two steps as well."""
    for start, products in ((0.0, 0), (1e9, 1)):
        graph = Graph()
        bins = piecewise.Piecewise(np.zeros(2, np.int64), np.array([start, start + 1e-3]), np.array([1e3, 1e3]))
        source = graph.input("numeric", TensorProto.DOUBLE, 1)
        graph.output("x", bins.emit(graph, source, 1, 1.0, is_exact=False), TensorProto.DOUBLE, 2)
        engine = Engine(graph.model("bins").SerializeToString(), EngineOptions(device="cpu"), ["numeric"])
        x = engine.run([np.array([[start + 1.5e-3]])])["x"]
        assert x == pytest.approx(np.array([[1.0, 0.5]]), abs=1e-3)
        assert [node.op_type for node in graph.nodes].count("Mul") == products
