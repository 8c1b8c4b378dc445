"""A file to arrays, with the settings that overrule what is inferred."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchproof.training.data.dataset import Dataset, prepare
from batchproof.training.data.tables.table_error import TableError
from batchproof.training.settings import make

ROWS = 40


def write(path: Path, rows: int = ROWS, start: int = 0) -> Path:
    """Write a small table."""
    lines = ["number,word,day,part,y"]
    for row in range(start, start + rows):
        part = ("train", "train", "val", "test")[row % 4]
        lines.append(f"{row * 7 % 23},{'ab'[row % 2]},2024-01-{row % 28 + 1:02d},{part},{row % 3 == 0}")
    path.write_text("\n".join(lines) + "\n")
    return path


def data(path: Path, **given: Any) -> Dataset:
    """Prepare with the settings."""
    return prepare(path, make({"target": "y", **given}))


def test_prepared(tmp_path: Path) -> None:
    """Columns, goal, split and arrays of a small table."""
    found = data(write(tmp_path / "t.csv"), drop=("part",))
    assert found.target.classes == (False, True)
    assert [feature.kind for feature in found.signature.inputs] == ["numeric", "categorical", "date"]
    assert {part: len(found.y(part)) for part in found.arrays} == {"train": 24, "validation": 8, "test": 8}
    assert found.lines()[:3] == [
        "t.csv: 40 rows, 5 columns",
        "target 'y': binary, 2 classes (the target has two values)",
        "rows: 24 train, 8 validation, 8 test",
    ]
    assert found.lines()[-1] == "  part    dropped      as requested"


def test_split_column(tmp_path: Path) -> None:
    """A column may say the parts; it is no feature then."""
    found = data(write(tmp_path / "t.csv"), split_column="part")
    assert found.split.test.tolist() == list(range(3, ROWS, 4))
    assert "part" not in [feature.name for feature in found.signature.inputs]


def test_test_file(tmp_path: Path) -> None:
    """A test file is the test, whole, its columns in any order."""
    table, other = write(tmp_path / "t.csv"), write(tmp_path / "u.csv", rows=12, start=100)
    found = data(table, test=str(other), drop=("part",))
    assert found.split.test.tolist() == list(range(ROWS, ROWS + 12))
    assert len(found.split.train) + len(found.split.validation) == ROWS
    np.testing.assert_array_equal(found.y("test"), [row % 3 == 0 for row in range(100, 112)])


@pytest.mark.parametrize(
    "given, sentence",
    [
        ({"target": "yy"}, "--target names 'yy', but there is no such column: did you mean 'y'?"),
        ({"drop": ("nummer",)}, "--drop names 'nummer', but there is no such column: did you mean 'number'?"),
        ({"split_column": "word"}, "line 2 has 'a' in 'word': use train, validation or test."),
        ({"test": "absent.csv"}, "there is no file absent.csv."),
        ({"test": "ftp://bucket/t.csv"}, "--test: ftp:// is not supported"),
        ({"test": "x.csv", "split_column": "part"}, "--test and --split-column both define the test rows"),
        ({"drop": ("number", "word", "day", "part")}, "every column was dropped"),
    ],
)
def test_refusals(tmp_path: Path, given: dict[str, Any], sentence: str) -> None:
    """Settings that do not fit the table are refused, with the nearest name."""
    with pytest.raises(TableError) as refusal:
        data(write(tmp_path / "t.csv"), **given)
    assert sentence in str(refusal.value)


def test_other_columns_in_the_test_file(tmp_path: Path) -> None:
    """A test file without one of the columns is refused."""
    other = tmp_path / "u.csv"
    other.write_text("number,y\n1,2\n")
    with pytest.raises(TableError, match=r"u.csv has no column 'word': the columns are 'number', 'y'\."):
        data(write(tmp_path / "t.csv"), test=str(other))


def test_a_class_without_training_rows(tmp_path: Path) -> None:
    """A class that only the test has cannot be learnt, and is refused."""
    path = tmp_path / "t.csv"
    parts = ["train"] * 8 + ["val"] * 2 + ["test"] * 2
    labels = ["p", "q"] * 5 + ["p", "r"]
    rows = [f"{row * row},{part},{label}" for row, (part, label) in enumerate(zip(parts, labels, strict=True))]
    path.write_text("\n".join(["x,part,y", *rows]) + "\n")
    with pytest.raises(TableError, match=r"class 'r' is in no training row: it cannot be learnt."):
        data(path, split_column="part")


@pytest.mark.parametrize("far", [1e300, -1.7e308])
def test_a_far_value_is_refused_with_its_column(tmp_path: Path, far: float) -> None:
    """A value whose square overflows, as a marker of missing values may be, names its column and what to do."""
    path = tmp_path / "far.csv"
    path.write_text("x,far,y\n" + "".join(f"{row},{far if row == 7 else row},{row % 2}\n" for row in range(50)))
    with pytest.raises(TableError, match=r"column 'far' holds a value of size 1.*, and 1e\+100 is the most"):
        prepare(path, make({"target": "y"}))
