"""Training and serving read the same values to the same arrays: the columns of a table against its rows as JSON."""

import io
import json
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from batchproof.service.features.arrays import Arrays
from batchproof.service.features.columns import encode_columns
from batchproof.service.features.row_encoder import Encoder
from batchproof.service.features.texts.text_cells import MISSING
from batchproof.service.tables.block import Reading
from batchproof.service.tables.codecs import blocks_of
from batchproof.service.tables.formats import CSV, PARQUET, Format
from batchproof.service.tables.parameters import Parameters
from batchproof.training.data.dataset import Dataset, prepare
from batchproof.training.settings import Settings

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
def data(tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, Any]]) -> Dataset:
    path = tmp_path_factory.mktemp("table") / "t.parquet"
    parquet.write_table(pa.Table.from_pylist(records), path)
    return prepare(path, Settings(target="y", categorical=("whole", "flag")))


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_rows_served_are_the_rows_trained_on(data: Dataset, records: list[dict[str, Any]], part: str) -> None:
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


def served(data: Dataset, body: bytes, found: Format) -> Arrays:
    """Return the arrays that the service reads from a table, of all of its rows."""
    reading = Reading(Encoder(data.signature), Parameters(extra="ignore"), 100_000)
    (block,) = blocks_of(io.BytesIO(body), found, reading)
    read = block.read()
    assert list(read.problems) == []
    return read.arrays


def check_alike(data: Dataset, arrays: Arrays) -> None:
    for part in ("train", "validation", "test"):
        for trained, read in zip(data.arrays[part], arrays, strict=True):
            assert (read is None) == (trained is None)
            if read is not None:
                np.testing.assert_array_equal(read[getattr(data.split, part)], trained)


def text_of(spellings: list[str]) -> str:
    """Return a CSV table in which every kind of column is missing in every spelling."""
    kinds = ("number", "count", "truth", "text", "day", "moment", "whole", "flag")
    rng = np.random.default_rng(3)
    lines = [",".join([*kinds, "y"])]
    for row in range(ROWS):
        cells = [spellings[row // 3 % len(spellings)] if row % 3 == 0 else value_of(kind, rng) for kind in kinds]
        lines.append(",".join([*map(str, cells), str(rng.normal())]))
    return "\n".join(lines) + "\n"


def test_missing_cells_are_missing_on_both_sides(tmp_path: Path) -> None:
    """Whatever training reads as a missing value of a text table, serving the same table reads so too, bit for bit."""
    body = text_of(sorted(MISSING))
    path = tmp_path / "t.csv"
    path.write_text(body)
    data = prepare(path, Settings(target="y", categorical=("whole", "flag")))

    assert {feature.name: feature.kind for feature in data.signature.inputs} == {
        **dict.fromkeys(("number", "count", "truth"), "numeric"),
        **dict.fromkeys(("text", "whole", "flag"), "categorical"),
        **dict.fromkeys(("day", "moment"), "date"),
    }
    assert all(feature.missing for feature in data.signature.inputs)
    check_alike(data, served(data, body.encode(), CSV))


def test_nan_has_many_spellings_on_both_sides(tmp_path: Path) -> None:
    """What training reads as NaN in a column of numbers is a missing number when serving."""
    body = "a,y\n" + "".join(
        f"{'NAN' if row % 5 == 0 else '-nan' if row % 7 == 0 else row + 0.5},{row}\n" for row in range(60)
    )
    path = tmp_path / "t.csv"
    path.write_text(body)
    data = prepare(path, Settings(target="y"))

    check_alike(data, served(data, body.encode(), CSV))


def test_a_typed_text_is_never_missing(tmp_path: Path) -> None:
    """A Parquet text such as NA is a category on both sides; the model then takes a CSV cell of that spelling for it."""
    words, path = ["NA", "null", "b", None], tmp_path / "t.parquet"
    table = pa.table({"a": [words[row % 4] for row in range(80)], "y": [row % 4 + row % 3 / 10 for row in range(80)]})
    parquet.write_table(table, path)
    data = prepare(path, Settings(target="y"))
    text = "a\n" + "".join(f"{'?' if word is None else word}\n" for word in table["a"].to_pylist())

    assert data.signature.inputs[0].categories == ("NA", "b", "null")
    check_alike(data, served(data, path.read_bytes(), PARQUET))
    check_alike(data, served(data, text.encode(), CSV))


def test_times_of_day_are_the_texts_of_their_cells(tmp_path: Path) -> None:
    """A time in CSV is the category that its cell spells, in training as in serving."""
    body = "at,y\n" + "".join(f"{8 + row % 5:02}:30,{row % 5 + row / 100}\n" for row in range(80))
    path = tmp_path / "t.csv"
    path.write_text(body)
    data = prepare(path, Settings(target="y"))

    assert data.signature.inputs[0].categories == ("08:30", "09:30", "10:30", "11:30", "12:30")
    check_alike(data, served(data, body.encode(), CSV))


TYPED = {
    "decimals": pa.array([None if row % 9 == 0 else Decimal(row % 7) / 8 for row in range(80)], pa.decimal128(9, 4)),
    "times": pa.array([None if row % 9 == 0 else time(row % 7, 30) for row in range(80)], pa.time32("s")),
    "long times": pa.array([time(row % 7, 30) for row in range(80)], pa.time64("us")),
    "small floats": pa.array(np.arange(80, dtype=np.float16) / 3),
    "numbered texts": pa.array(["a", "b", None, "d"] * 20).dictionary_encode(),
    "days": pa.array([date(2020, 1, row % 28 + 1) for row in range(80)], pa.date64()),
}


@pytest.mark.parametrize("column", TYPED.values(), ids=TYPED)
def test_typed_columns_are_served_as_they_were_trained(tmp_path: Path, column: pa.Array) -> None:
    """Whatever type of Parquet column training takes, serving takes too, to the same arrays."""
    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table({"a": column, "y": [row % 7 + row / 100 for row in range(80)]}), path)
    data = prepare(path, Settings(target="y"))

    check_alike(data, served(data, path.read_bytes(), PARQUET))
