"""Training and serving read the same values to the same arrays: the columns of a table against its rows as JSON."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from service.columns import encode_columns
from service.features import Encoder
from training.data import Data, prepare
from training.settings import Settings

ROWS = 600


def value_of(kind: str, rng: np.random.Generator) -> Any:
    drawn = int(rng.integers(6))
    return {
        "number": float(rng.normal() * 10.0 ** rng.integers(-8, 9)),
        "count": drawn,
        "truth": drawn > 2,
        "text": ["Ærø", "b", "true", "3", " b", "c d"][drawn],
        "whole": [-1, 0, 7, 10, 33, 2**40][drawn],
        "flag": drawn > 1,
        "day": f"{1960 + drawn * 11}-0{drawn + 1}-1{drawn}",
        "moment": f"2024-02-2{drawn}T1{drawn}:00:00.{drawn}25Z",
    }[kind]


@pytest.fixture(scope="module")
def records() -> list[dict[str, Any]]:
    rng = np.random.default_rng(11)
    kinds = ("number", "count", "truth", "text", "whole", "flag", "day", "moment")
    return [
        {kind: None if rng.random() < 0.1 else value_of(kind, rng) for kind in kinds} | {"y": float(rng.normal())}
        for _ in range(ROWS)
    ]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, Any]]) -> Data:
    path = tmp_path_factory.mktemp("table") / "t.parquet"
    parquet.write_table(pa.Table.from_pylist(records), path)
    return prepare(path, Settings(target="y", categorical=("whole", "flag")))


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_rows_served_are_the_rows_trained_on(data: Data, records: list[dict[str, Any]], part: str) -> None:
    """Each table row, sent as JSON, becomes bit for bit the array row that training used, rare categories included."""
    names = [feature.name for feature in data.signature.inputs]
    assert {"number", "count", "truth", "text", "whole", "flag", "day", "moment"} == set(names)
    chosen = [records[row] for row in getattr(data.split, part)]
    rows = json.loads(json.dumps([{name: record[name] for name in names} for record in chosen]))
    encoded = Encoder(data.signature).encode_rows(rows)
    columns = encode_columns(data.signature, {name: [row[name] for row in rows] for name in names})
    assert encoded.errors == []
    for trained, served, tabled in zip(data.arrays[part], encoded.arrays, columns, strict=True):
        np.testing.assert_array_equal(served, trained)
        np.testing.assert_array_equal(tabled, trained)
