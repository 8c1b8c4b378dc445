"""Categorical columns by one table: the values that one-hot columns and embeddings have, for any code."""

import numpy as np
import pytest

from batchproof.service.inference.engine import Engine, EngineOptions
from batchproof.training.preprocessing.categories import lookup, onehot
from batchproof.training.preprocessing.onnx_graph import Graph, TensorProto


def looked_up(codes: np.ndarray, tables: list[tuple[int, np.ndarray]]) -> tuple[np.ndarray, list[str]]:
    """Run the nodes on codes [rows, columns]; returns the tables' columns, padding left out, and the operators."""
    graph = Graph()
    source = graph.input("categorical", TensorProto.INT64, codes.shape[1])
    found = lookup.emit(graph, source, codes.shape[1], tables)
    graph.output("x", found.name, TensorProto.DOUBLE, len(found.place))
    engine = Engine(graph.model("lookup").SerializeToString(), EngineOptions(device="cpu"), ["categorical"])
    x = engine.run([codes])["x"]
    assert (x[:, found.place < 0] == 0.0).all()
    kept = x[:, found.place >= 0]
    return kept[:, np.argsort(found.place[found.place >= 0])], [node.op_type for node in graph.nodes]


def wanted(codes: np.ndarray, tables: list[tuple[int, np.ndarray]]) -> np.ndarray:
    """Return each table's row for the code of its column, side by side."""
    return np.concatenate([table[np.clip(codes[:, column], 0, len(table) - 1)] for column, table in tables], axis=1)


@pytest.mark.parametrize("heights", [(3,), (3, 5), (9, 2, 4), (40_000, 3)])
@pytest.mark.parametrize("rows", [1, 70])
def test_every_value_is_copied(heights: tuple[int, ...], rows: int) -> None:
    """Each column's values are those of its table, bit for bit, whatever the other tables' heights and widths are."""
    random = np.random.default_rng(len(heights))
    tables = [(2 * place, random.normal(size=(height, place + 1))) for place, height in enumerate(heights)]
    codes = random.integers(0, np.repeat(heights, 2), (rows, 2 * len(heights)))
    found, _ = looked_up(codes, tables)
    assert found.tobytes() == wanted(codes, tables).tobytes()


@pytest.mark.parametrize("heights", [(4,), (4, 6), (50_000, 4)])
def test_no_code_is_out_of_range(heights: tuple[int, ...]) -> None:
    """A code beyond the table reads its last row, and a negative one its first, so that no row fails a batch."""
    tables = [(place, np.arange(3.0 * height).reshape(height, 3)) for place, height in enumerate(heights)]
    least, most = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    codes = np.repeat(np.array([[least], [-1], [0], [4], [60_000], [most]]), len(heights), axis=1)
    found, _ = looked_up(codes, tables)
    assert (found == wanted(codes, tables)).all()


def test_one_hot_columns_are_identities() -> None:
    """A one-hot column's table gives what its comparison gives, for codes that training did not have too."""
    codes = np.array([[0, 1], [1, 3], [4, 1], [2, 9], [7, 0]])
    fitted = onehot.fit(codes[:3], [0, 1])
    graph = Graph()
    source = graph.input("categorical", TensorProto.INT64, 2)
    graph.output("x", fitted.emit(graph, source), TensorProto.DOUBLE, len(fitted.column))
    engine = Engine(graph.model("onehot").SerializeToString(), EngineOptions(device="cpu"), ["categorical"])
    found, _ = looked_up(codes, lookup.identities(fitted))
    assert (found == engine.run([codes])["x"]).all()


def test_the_number_of_nodes_does_not_grow_with_the_columns() -> None:
    """Two columns take as many nodes as thirty."""
    for count in (2, 30):
        tables = [(place, np.ones((5, 3))) for place in range(count)]
        _, operators = looked_up(np.zeros((1, count), np.int64), tables)
        assert operators == ["Clip", "Gather", "Add", "Gather", "Reshape", "Identity"]
