"""Splits by group and by time: no group on two sides, no training row after a test row, and refusals by place."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproof.training.__main__ import main
from batchproof.training.data.dataset import Dataset, prepare
from batchproof.training.data.rows.group_split import draw_groups
from batchproof.training.data.rows.time_split import draw_times
from batchproof.training.data.tables.table_error import TableError
from batchproof.training.evaluation.cross_validation import fold_splits
from batchproof.training.settings import SettingError, make
from tests.training.quick import quick

SHARES = (0.2, 0.2)


@given(st.lists(st.integers(0, 9), min_size=12, max_size=200), st.integers(0, 9))
def test_no_group_is_on_two_sides(groups: list[int], seed: int) -> None:
    """Every row is in one part, every group too, and no part is empty, whatever the sizes of groups."""
    numbers = np.asarray(groups)
    if len(np.unique(numbers)) < 3:
        with pytest.raises(TableError, match="groups of rows, too few for 3 parts that share none"):
            draw_groups(numbers, np.zeros(len(numbers), np.int64), seed, SHARES)
        return
    parts = draw_groups(numbers, np.zeros(len(numbers), np.int64), seed, SHARES)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(numbers)))
    assert all(len(part) for part in parts)
    kinds = [set(numbers[part].tolist()) for part in parts]
    assert sum(map(len, kinds)) == len(set(groups))


def test_groups_keep_the_classes_shares() -> None:
    """With many groups, each part has its share of the rows and of each class, and another seed another split."""
    random = np.random.default_rng(0)
    groups = random.integers(0, 150, 3000)
    strata = (random.random(150)[groups] < 0.15).astype(np.int64)  # a group is of one class
    parts = draw_groups(groups, strata, 0, SHARES)

    for part, share in zip(parts, (0.6, 0.2, 0.2), strict=True):
        assert len(part) / 3000 == pytest.approx(share, abs=0.02)
        assert strata[part].sum() / strata.sum() == pytest.approx(share, abs=0.05)
    assert draw_groups(groups, strata, 1, SHARES).test.tolist() != parts.test.tolist()
    assert not len(draw_groups(groups, strata, 1, (0.2, 0.0)).test)


@given(st.lists(st.integers(0, 6), min_size=12, max_size=100))
def test_time_passes_in_one_direction(times: list[int]) -> None:
    """All training rows are before all validation rows, and those before all test rows, rows of one time together."""
    values = np.asarray(times, np.float64)
    if len(set(times)) < 3:
        with pytest.raises(TableError, match=r"the time 'when' has . different values, too few for 3 parts one after"):
            draw_times(values, SHARES, "when")
        return
    train, validation, test = draw_times(values, SHARES, "when")
    assert sorted([*train, *validation, *test]) == list(range(len(times)))
    assert values[train].max() < values[validation].min()
    assert values[validation].max() < values[test].min()


def test_time_keeps_shares() -> None:
    """Where times differ, the parts have their shares."""
    parts = draw_times(np.random.default_rng(0).permutation(1000).astype(np.float64), SHARES, "when")
    assert [len(part) for part in parts] == [600, 200, 200]
    assert parts.train.tolist() == sorted(parts.train.tolist())


def prepared(folder: Path, rows: list[str], **settings: Any) -> Dataset:
    """Return a table of x, who, when and y, prepared."""
    path = folder / "t.csv"
    path.write_text("\n".join(["x,who,when,y", *rows]) + "\n")
    return prepare(path, make({"target": "y", "rare_rows": 1, **settings}))


def lines(count: int = 80) -> list[str]:
    """Return rows of 16 persons over 80 days, in another order than that of the days."""
    order = np.random.default_rng(0).permutation(count)
    day = np.datetime64("2024-01-01") + order
    return [f"{row * 7 % 23}.5,p{row // 5},{day[row]},{'ab'[row % 2]}" for row in range(count)]


def test_a_group_is_no_feature_unless_it_is_kept(tmp_path: Path) -> None:
    """The column of groups or times is ignored in scoring, and a feature only where --keep names it."""
    data = prepared(tmp_path, lines(), group="who")
    assert [feature.name for feature in data.signature.inputs] == ["x", "when"]
    assert data.signature.ignored == ("who",)
    assert any(line.startswith("split by group 'who': ") and line.endswith(" groups") for line in data.lines())
    data = prepared(tmp_path, lines(), time="when", keep=("when",))
    assert "when" in [feature.name for feature in data.signature.inputs]
    assert any(
        line.startswith("split by time 'when': train 2024-01-01T00:00:00Z to 2024-02-17") for line in data.lines()
    )


def test_folds_respect_keys(tmp_path: Path) -> None:
    """Each fold of `compare` tests on other groups, or on later rows, than it learns from; all groups are tested once."""
    data = prepared(tmp_path, lines(), group="who")
    assert data.keys is not None
    tested = []
    for split in fold_splits(data, 0, 4):
        kinds = [set(data.keys.values[part].tolist()) for part in split]
        assert sum(map(len, kinds)) == 16
        tested += sorted(kinds[2])
    assert sorted(tested) == list(range(16))

    data = prepared(tmp_path, lines(), time="when")
    assert data.keys is not None
    splits = list(fold_splits(data, 0, 4))
    assert len(splits) == 4
    for split in splits:
        train, validation, test = (data.keys.values[part] for part in split)
        assert train.max() < validation.min()
        assert validation.max() < test.min()


@pytest.mark.parametrize(
    ("row", "settings", "sentence"),
    [
        (
            "3.5,,2024-01-02,a",
            {"group": "who"},
            "the group 'who' has no value in line 4: fill it in or remove such rows.",
        ),
        ("3.5,p1,,a", {"time": "when"}, "the time 'when' has no value in line 4: fill it in or remove such rows."),
        ("3.5,p1,soon,a", {"time": "when"}, "--time names 'when', which cannot be read as a time"),
        ("3.5,p1,2024-01-02,a", {"time": "who"}, "--time names 'who', which cannot be read as a time"),
        (
            "3.5,p1,2024-01-02,a",
            {"group": "whom"},
            "--group names 'whom', but there is no such column: did you mean 'who'",
        ),
    ],
)
def test_keys_that_cannot_be_used(tmp_path: Path, row: str, settings: dict[str, Any], sentence: str) -> None:
    """A key that is missing, that is no time, or that is of no column is refused with its place."""
    rows = lines()
    rows[2] = row
    with pytest.raises(TableError, match=sentence):
        prepared(tmp_path, rows, **settings)


def test_one_value_divides_nothing(tmp_path: Path) -> None:
    """A column with one value in every row is refused, for groups and for times."""
    rows = [f"{row * 7 % 23}.5,me,2024-01-01,{'ab'[row % 2]}" for row in range(40)]
    with pytest.raises(TableError, match="the group 'who' has one value in every row: there is nothing to keep apart"):
        prepared(tmp_path, rows, group="who")
    with pytest.raises(TableError, match="the time 'when' is the same in every row: nothing is before or after"):
        prepared(tmp_path, rows, time="when")


def test_a_test_file_is_apart(tmp_path: Path) -> None:
    """Test rows of a known group, or not after the table's last row, are refused with their line."""
    other = tmp_path / "test.csv"
    other.write_text("x,who,when,y\n1.5,new,2025-01-01,a\n2.5,p3,2024-01-09,b\n")
    with pytest.raises(
        TableError, match="1 test rows are of a group 'who' that the table has too, the first is line 3 of"
    ):
        prepared(tmp_path, lines(), group="who", test=str(other))
    with pytest.raises(
        TableError, match="1 test rows are not after the last 'when' of the table, the first is line 3 of"
    ):
        prepared(tmp_path, lines(), time="when", test=str(other))
    other.write_text("x,who,when,y\n1.5,new,2025-01-01,a\n2.5,newer,2025-01-09,b\n")
    assert len(prepared(tmp_path, lines(), time="when", test=str(other)).split.test) == 2


@pytest.mark.parametrize(
    "given", [{"group": "a", "time": "b"}, {"group": "a", "split_column": "b"}, {"time": "a", "split_column": "b"}]
)
def test_one_way_to_split(given: dict[str, str]) -> None:
    """Two settings that both say how rows are split are refused."""
    with pytest.raises(SettingError, match="both say how rows are split: choose one"):
        make({"target": "y", **given})


def test_the_bundle_says_how_it_was_split(tmp_path: Path) -> None:
    """bundle.json and the report have the groups of each part, or its first and last time."""
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["x,who,when,y", *lines()]) + "\n")
    fast = [*quick("y", widths=4, epochs=1), "--quiet", "--models"]
    for name, flags in (("g", ["--group", "who"]), ("t", ["--time", "when", "--drop", "who"])):
        assert main([str(path), *fast, str(tmp_path / "models"), "--name", name, *flags]) == 0
    groups, times = (
        json.loads((tmp_path / "models" / name / "1" / "bundle.json").read_bytes())["provenance"]["split_by"]
        for name in ("g", "t")
    )
    assert groups["group"] == "who"
    assert sum(groups["groups"].values()) == 16
    assert times["times"]["train"][1] < times["times"]["validation"][0] < times["times"]["test"][0]
    assert times["times"]["test"][1] == "2024-03-20T00:00:00Z"
    assert "Split by time, when: train 2024-01-01" in (tmp_path / "models" / "t" / "1" / "report.html").read_text()
