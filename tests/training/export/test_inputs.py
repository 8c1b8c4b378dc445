"""The first layer's inputs: each exporter's graph encodes rows as the network was fitted to them, in other multiples."""

import numpy as np
import pytest

from batchproof.service.features.arrays import Arrays
from batchproof.service.inference.engine import Engine, EngineOptions
from batchproof.training.export.exact.graph import on_grid
from batchproof.training.export.float32 import beside, emit_inputs
from batchproof.training.preprocessing.fitting import Encoding, fit
from batchproof.training.preprocessing.onnx_graph import Graph, TensorProto
from batchproof.training.preprocessing.preprocess import Form, Preprocess

COUNTS = (3, 20, 12)  # codes of the categorical columns, of which the first is one-hot
FORMS = {"float32": Form(scaled=1.0, is_exact=False), "exact": on_grid(25)}


def make_rows(unit: float, random: np.random.Generator) -> Arrays:
    """Draw columns of several shapes, in a unit, and one with an outlier that no square holds."""
    heavy, spikes = np.exp(3.0 * random.normal(size=90)), np.where(random.random(90) < 0.7, 0.0, random.normal(size=90))
    far = np.append(random.normal(size=89), 1e200)
    numeric = np.stack([random.normal(size=90) + 1e9, heavy, spikes * 1e5, np.arange(90) % 4], axis=1) * unit
    numeric[::11, 1] = np.nan
    codes = np.stack([random.integers(0, count, 90) for count in COUNTS], axis=1)
    return Arrays(np.column_stack([numeric, far]) if unit == 1.0 else numeric, codes)


def encode(preprocess: Preprocess, rows: Arrays, tables: list[np.ndarray], form: Form | None) -> np.ndarray:
    """Return the first layer's input [rows, in] float64, out of a form's graph put into the network's order and multiples."""
    graph = Graph()
    if form is None:
        x, width = preprocess.emit(graph, *preprocess.declare(graph)).x, preprocess.width
    else:
        inputs = emit_inputs(graph, preprocess, (1, 2), tables, form)
        x, width = beside(graph, inputs.parts), len(inputs.place)
    graph.output("x", x, TensorProto.DOUBLE, width)
    found = Engine(graph.model("inputs").SerializeToString(), EngineOptions(device="cpu")).run(rows)["x"]
    if form is None:
        assert rows.categorical is not None
        return np.concatenate([found, *(table[rows.categorical[:, at]] for at, table in enumerate(tables, 1))], axis=1)
    assert (found[:, inputs.place < 0] == 0.0).all()
    kept = inputs.place >= 0
    return np.asarray(found * inputs.factor)[:, kept][:, np.argsort(inputs.place[kept])]


@pytest.mark.parametrize("unit", [1e-200, 1e-25, 1.0, 1e25, 1e200])
@pytest.mark.parametrize("waves", [False, True])
@pytest.mark.parametrize("kind", FORMS)
def test_every_form_is_the_encoding(unit: float, *, waves: bool, kind: str) -> None:
    """In float32's form to rounding, in steps of a grid bit for bit, for NaN, infinities and numbers far outside as well."""
    random = np.random.default_rng(0)
    rows = make_rows(unit, random)
    encoding = Encoding(bins=9, waves=waves)
    preprocess = fit(rows, random.integers(0, 2, 90), classes=True, encoding=encoding)
    assert rows.numeric is not None
    assert rows.categorical is not None
    wild = random.choice([np.nan, np.inf, -np.inf, 0.0, 1e300, -1e152, 7.0 * unit], rows.numeric.shape)
    rows = Arrays(np.concatenate([rows.numeric, wild]), np.concatenate([rows.categorical] * 2))
    tables = [random.normal(size=(count + 2, 3)) for count in COUNTS[1:]]
    wanted = encode(preprocess, rows, tables, None)
    found = encode(preprocess, rows, tables, FORMS[kind])
    assert np.isfinite(wanted).all()
    if kind == "exact":
        assert (found == wanted).all()
    else:
        assert found == pytest.approx(wanted, rel=1e-9, abs=1e-9)
