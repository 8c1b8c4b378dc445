import numpy as np
import pytest
from onnx import numpy_helper

from batchproof.service.features.arrays import Arrays
from batchproof.service.inference.engine import Engine, EngineOptions
from batchproof.training.preprocessing import picking
from batchproof.training.preprocessing.fitting import Encoding, fit
from batchproof.training.preprocessing.onnx_graph import Graph, TensorProto
from batchproof.training.preprocessing.picking import pick
from batchproof.training.preprocessing.preprocess import Preprocess

EXACT = {
    *("Add", "Sub", "Mul", "Div", "Sqrt", "Neg", "Abs", "Floor", "Round", "Clip", "Min", "Max", "Cast", "Where"),
    *("IsNaN", "Not", "And", "Or", "Equal", "Less", "Greater", "Gather", "Concat", "Identity"),
}


def mixed_rows(rows: int = 60) -> tuple[Arrays, np.ndarray]:
    random = np.random.default_rng(0)
    numeric = random.normal(size=(rows, 3)) * [1.0, 1e6, 1e-3] + [0.0, 1e9, 5.0]
    numeric[::7, 1] = np.nan
    categorical = np.stack([random.integers(0, 3, rows), random.integers(0, 20, rows)], axis=1)
    return Arrays(numeric, categorical), numeric[:, 0]


@pytest.mark.parametrize("edges", [None, "quantile", "distinct", "tree"])
@pytest.mark.parametrize("waves", [False, True])
def test_every_encoding_uses_only_exact_operators(edges: str | None, *, waves: bool) -> None:
    """No node may round in a way that differs between machines: each is elementwise, moves data, or picks columns."""
    raw, y = mixed_rows()
    graph = Graph()
    names = graph.input("numeric", TensorProto.DOUBLE, 3), graph.input("categorical", TensorProto.INT64, 2)
    preprocess = fit(raw, y, classes=False, encoding=Encoding(edges=edges, waves=waves), dates=[1])
    assert preprocess.calendar is not None
    preprocess.emit(graph, *names)
    assert {node.op_type for node in graph.nodes} <= {*EXACT, "Gemm"}
    stored = {each.name: numpy_helper.to_array(each) for each in graph.initializers}
    for weight in [stored[node.input[1]] for node in graph.nodes if node.op_type == "Gemm"]:
        assert ((weight == 0) | (weight == 1)).all()
        assert (weight.sum(axis=0) == 1).all()


@pytest.mark.parametrize("columns", [1, 3, picking.MOST_COLUMNS, picking.MOST_COLUMNS + 1])
def test_picked_columns_have_the_bits_of_one_sum(columns: int) -> None:
    """A picked column plus its constant is rounded once, for any number of columns, rows and any finite values."""
    random = np.random.default_rng(columns)
    x = random.normal(size=(33, columns)) * 10.0 ** random.integers(-300, 300, (33, columns))
    chosen, added = random.integers(0, columns, 50), random.normal(size=50) * 10.0 ** random.integers(-20, 20, 50)
    graph = Graph()
    picked = pick(graph, graph.input("numeric", TensorProto.DOUBLE, columns), columns, chosen, added, "bin")
    graph.output("x", picked, TensorProto.DOUBLE, 50)
    engine = Engine(graph.model("picked").SerializeToString(), EngineOptions(device="cpu"))
    for rows in (1, 2, 33):
        assert (engine.run(Arrays(x[:rows], None))["x"] == x[:rows, chosen] + added).all()


def test_the_encoded_width_is_the_one_stated() -> None:
    """Bounds, width and the matrix agree."""
    raw, y = mixed_rows()
    preprocess = fit(raw, y, classes=False, encoding=Encoding(bins=5, waves=True))
    assert preprocess.transform(raw).shape == (60, preprocess.width)
    assert len(preprocess.bounds) == preprocess.width


def test_missing_values_get_the_median_and_an_indicator() -> None:
    """NaN encodes as the column's median, and the last numeric column says that it was missing."""
    raw, y = mixed_rows()
    preprocess = fit(Arrays(raw.numeric, None), y, classes=False, encoding=Encoding(edges=None))
    assert preprocess.missing.tolist() == [1]
    assert raw.numeric is not None
    x = preprocess.transform(Arrays(raw.numeric[:8], None))
    assert x[0, 1] == 0.0
    assert x[:, -1].tolist() == [1, 0, 0, 0, 0, 0, 0, 1]


def test_small_categories_are_one_hot_and_large_ones_are_left_to_the_network() -> None:
    """Up to eight codes get a column each, more are embedded; a code never trained on encodes as all zeros."""
    raw, y = mixed_rows()
    preprocess = fit(Arrays(None, raw.categorical), y, classes=False, encoding=Encoding())
    assert preprocess.embedded.tolist() == [1]
    assert preprocess.transform(Arrays(None, np.array([[1, 0], [9, 0]]))).tolist() == [[0, 1, 0], [0, 0, 0]]


def test_a_table_of_large_categories_alone_still_has_an_encoded_column() -> None:
    """Where nothing else fills x, the smallest categorical column is one-hot."""
    codes = np.arange(40)[:, None] % 20
    preprocess = fit(Arrays(None, codes), np.zeros(40), classes=False, encoding=Encoding())
    assert preprocess.width == 20
    assert len(preprocess.embedded) == 0


def test_arrays_rebuild_the_encoder() -> None:
    """What is stored in a bundle encodes to the same bits."""
    raw, y = mixed_rows()
    preprocess = fit(raw, y, classes=False, encoding=Encoding(waves=True))
    again = Preprocess.from_arrays(preprocess.to_arrays())
    assert again.transform(raw).tobytes() == preprocess.transform(raw).tobytes()


def test_rows_are_encoded_alike_alone_and_in_chunks() -> None:
    """A row's encoding does not depend on the rows beside it."""
    raw, y = mixed_rows()
    preprocess = fit(raw, y, classes=False, encoding=Encoding(waves=True))
    alone = [preprocess.transform(Arrays(*(part[i : i + 1] for part in raw if part is not None))) for i in range(60)]
    assert np.concatenate(alone).tobytes() == preprocess.transform(raw).tobytes()
