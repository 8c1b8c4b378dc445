"""How much rows and classes count: a column, weights of classes, and rows that are left out; each refusal by its place."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchproof.training.data.dataset import Dataset, prepare
from batchproof.training.data.rows.weights import entries
from batchproof.training.data.tables.table_error import TableError
from batchproof.training.settings import SettingError, make


def prepared(folder: Path, rows: list[str], header: str = "x,w,y", **settings: Any) -> Dataset:
    """Return the table of these lines, prepared."""
    path = folder / "t.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return prepare(path, make({"target": "y", "rare_rows": 1, **settings}))


def lines(count: int = 60, weight: str = "1") -> list[str]:
    """Return rows of x, the weight and a class: two thirds of them `a`."""
    return [f"{row * 7 % 23}.5,{weight},{'aab'[row % 3]}" for row in range(count)]


def test_a_weight_counts_and_is_no_feature(tmp_path: Path) -> None:
    """Weights have the mean 1 over the training rows; their column is ignored in scoring, and no feature."""
    data = prepared(tmp_path, [line.replace(",1,", f",{1 + row % 4},") for row, line in enumerate(lines())], weight="w")
    weights = data.weights("train")

    assert weights is not None
    assert weights.mean() == pytest.approx(1.0)
    assert set(np.round(weights / weights.min(), 5)) == {1.0, 2.0, 3.0, 4.0}
    assert [feature.name for feature in data.signature.inputs] == ["x"]
    assert data.signature.ignored == ("w",)
    assert "weights of rows: 1 to 4" in data.lines()


def test_rows_of_weight_0_are_left_out(tmp_path: Path) -> None:
    """A row of weight 0 is in no part, a warning says how many there are, and refusals still name lines of the file."""
    rows = lines()
    rows[3] = rows[3].replace(",1,", ",0,")
    data = prepared(tmp_path, rows, weight="w")
    assert sum(map(len, data.split)) == 59
    assert "warning: 1 of 60 rows are left out: their weight is 0." in data.warning_lines()
    rows[40] = "3.5,1,"
    with pytest.raises(TableError, match=r"the target 'y' has no value in line 42"):
        prepared(tmp_path, rows, weight="w")


def test_rows_without_a_target_are_left_out_on_request(tmp_path: Path) -> None:
    """--skip-missing-target leaves rows without a target out; other rows keep their place in refusals."""
    rows = lines()
    rows[0], rows[9] = "1.5,1,", "2.5,1,NA"
    data = prepared(tmp_path, rows, skip_missing_target=True, drop=("w",))
    assert len(data.target.y) == 58
    assert data.target.classes == ("a", "b")
    assert "warning: 2 of 60 rows are left out: they have no target." in data.warning_lines()
    rows[20] = "3.5,-1,a"
    with pytest.raises(TableError, match=r"the weight 'w' has a negative number in line 22: "):
        prepared(tmp_path, rows, skip_missing_target=True, weight="w")


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        (
            "",
            "the weight 'w' has no finite number in line 7: write a number, 0 or more; a row of weight 0 is left out.",
        ),
        ("-2", "the weight 'w' has a negative number in line 7: "),
        ("inf", "the weight 'w' has no finite number in line 7: "),
    ],
)
def test_weights_that_cannot_count(tmp_path: Path, cell: str, sentence: str) -> None:
    """A weight that is missing, negative or infinite is refused with its line."""
    rows = lines()
    rows[5] = rows[5].replace(",1,", f",{cell},")
    with pytest.raises(TableError, match=sentence):
        prepared(tmp_path, rows, weight="w")


def test_no_row_counts(tmp_path: Path) -> None:
    """Weights that are all 0, or no numbers at all, are refused."""
    with pytest.raises(TableError, match="the weight 'w' is 0 in every row: no row would count"):
        prepared(tmp_path, lines(weight="0"), weight="w")
    with pytest.raises(TableError, match="column 'w'"):
        prepared(tmp_path, lines(weight="much"), weight="w")
    with pytest.raises(TableError, match="--weight names 'weight', but there is no such column"):
        prepared(tmp_path, lines(), weight="weight")


def test_class_weights_multiply(tmp_path: Path) -> None:
    """The weight of a class multiplies that of its rows; `balanced` gives every class the same sum."""
    rows = [line.replace(",1,", f",{1 + row % 2},") for row, line in enumerate(lines())]
    data = prepared(tmp_path, rows, weight="w", class_weight="balanced")
    weights, own, y = data.weights("train"), data.row_weights("train"), data.y("train")
    assert weights is not None
    assert own is not None
    assert weights[y == 0].sum() == pytest.approx(weights[y == 1].sum())

    named = prepared(tmp_path, rows, weight="w", class_weight="b=3")
    weights = named.weights("train")
    assert weights is not None
    ratio = weights / own
    assert ratio[y == 1] == pytest.approx(3.0 * ratio[y == 0][0])
    assert "weights of classes: a 1, b 3" in named.lines()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("c=2", "--class-weight names 'c', but the target 'y' has no such class: its classes are 'a', 'b'."),
        ("a=0", "--class-weight gives 'a' the weight '0': use a number above 0."),
        ("a=x", "--class-weight gives 'a' the weight 'x': use a number above 0."),
        ("a=nan", "--class-weight gives 'a' the weight 'nan': use a number above 0."),
        ("a=1,a=2", "--class-weight names the class 'a' twice: give it one weight."),
        ("a", "--class-weight names '', but the target 'y' has no such class"),
    ],
)
def test_class_weights_that_cannot_be_used(tmp_path: Path, given: str, sentence: str) -> None:
    """An unknown class, one that is named twice, and a weight that is not above 0 are refused."""
    with pytest.raises(TableError, match=re.escape(sentence)):
        prepared(tmp_path, lines(), class_weight=given, drop=("w",))


def test_classes_may_hold_signs() -> None:
    """Commas and equals signs in a class are its own."""
    assert entries("a=2,York, New=3,x=y=1") == ["a=2", "York, New=3", "x=y=1"]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"class_weight": "balanced"}, "--class-weight needs classes, but the target 'y' is a number"),
        ({"metric": "f1"}, "--metric f1 is for a target of classes, but 'y' is a number: use one of rmse, mae."),
    ],
)
def test_a_number_has_no_classes(tmp_path: Path, settings: dict[str, Any], sentence: str) -> None:
    """What needs classes is refused for a regression."""
    rows = [f"{row * 7 % 23}.5,1,{row * 3 % 41}.25" for row in range(60)]
    with pytest.raises(TableError, match=sentence):
        prepared(tmp_path, rows, drop=("w",), **settings)


def test_a_metric_of_two_classes(tmp_path: Path) -> None:
    """The area under the ROC curve is of two classes: for three, the sentence names what there is."""
    rows = [f"{row * 7 % 23}.5,1,{'abc'[row % 3]}" for row in range(60)]
    with pytest.raises(
        TableError, match="--metric auc is for a target of two classes, but 'y' has 3 classes: use one of log"
    ):
        prepared(tmp_path, rows, drop=("w",), metric="auc")


@pytest.mark.parametrize(
    "given", [{"weight": "y"}, {"weight": "w", "drop": ("w",)}, {"weight": "w", "split_column": "w"}]
)
def test_a_column_has_one_task(given: dict[str, Any]) -> None:
    """A weight that is the target, is dropped, or names the split is refused."""
    with pytest.raises(SettingError, match="is named in both --"):
        make({"target": "y", **given})
