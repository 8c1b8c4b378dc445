"""Golden rows: synthetic, drawn feature by feature, with missing and unseen values, and stored as bits."""

import json
from typing import Any

import numpy as np
import pyarrow as pa

from batchproof.service.features.row_encoder import Encoder
from batchproof.training.data.column import Column
from batchproof.training.data.columns import typed
from batchproof.training.data.schema import infer
from batchproof.training.data.target import target_of
from batchproof.training.export.golden import draw, serialise

ROWS = 400


def column(name: str, values: list[Any], wanted: Any = None) -> Column:
    """Return a typed column."""
    found = typed(name, pa.chunked_array([pa.array(values)]), wanted)
    assert found is not None
    return found


def columns() -> list[Column]:
    """Make one column of each kind; of the two measures each row's second is the first's double."""
    measure = np.random.default_rng(0).normal(size=ROWS)
    return [
        column("a", measure.tolist()),
        column("b", [None if row % 9 == 0 else 2 * value for row, value in enumerate(measure)]),
        column("n", [row % 50 for row in range(ROWS)]),
        column("t", [row % 3 == 0 for row in range(ROWS)]),
        column("w", [None if row % 9 == 0 else "xy"[row % 2] for row in range(ROWS)]),
        column("k", [row % 4 for row in range(ROWS)], "categorical"),
        column("d", [f"2024-01-{row % 28 + 1:02d}" for row in range(ROWS)]),
    ]


def test_drawn_rows() -> None:
    """Every row is taken by the service's own encoder; missing and unseen values occur; no record is published."""
    made, train = columns(), np.arange(ROWS)
    signature = infer(made, target_of(column("y", [0, 1] * (ROWS // 2)), None), train, rare_rows=2, keep=()).signature
    rows = draw(signature, made, train, 64, seed=0)
    encoded = Encoder(signature).encode_rows(rows)
    assert not encoded.errors
    assert [type(value).__name__ for value in rows[1]][2:4] == ["int", "bool"]
    by_name = dict(zip((feature.name for feature in signature.inputs), zip(*rows, strict=True), strict=True))
    assert None in by_name["b"]
    assert None in by_name["w"]
    assert None not in by_name["a"]
    assert {"x", "y", "unseen"} <= set(by_name["w"])
    assert max(by_name["k"]) == 4
    real = set(made[0].values.tolist())
    assert not real & set(by_name["a"])
    correlation = np.corrcoef(by_name["a"], [0.0 if b is None else b for b in by_name["b"]])[0, 1]
    assert abs(correlation) < 0.4  # 1 in the table: features are drawn apart


def test_the_seed_decides() -> None:
    """The same seed draws the same rows."""
    made, train = columns(), np.arange(ROWS)
    signature = infer(made, target_of(column("y", [0, 1] * (ROWS // 2)), None), train, rare_rows=2, keep=()).signature
    assert draw(signature, made, train, 32, seed=1) == draw(signature, made, train, 32, seed=1)
    assert draw(signature, made, train, 32, seed=1) != draw(signature, made, train, 32, seed=2)


def test_bits() -> None:
    """Outputs are stored as little-endian bytes in hex, whatever order they had in memory."""
    stored = json.loads(serialise([[1]], {"value": np.array([[1.5]], ">f4")}))
    assert stored["outputs"]["value"]["hex"] == "0000c03f"
