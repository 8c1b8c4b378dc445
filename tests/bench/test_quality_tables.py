"""Tables of the accuracy benchmark, whole and as samples."""

import json
from pathlib import Path

import pandas as pd

from bench.quality.tables import label, splits


def write(folder: Path) -> None:
    """Write one table of 100 rows."""
    pd.DataFrame({"x": range(100), "y": [0, 1] * 50}).to_parquet(folder / "t.parquet")
    meta = {"target": "y", "task": "binary", "categorical": [], "rows": 100}
    (folder / "meta.json").write_text(json.dumps({"t": meta}))


def test_a_sample_is_the_same_for_every_seed_and_has_its_size_in_its_name(tmp_path: Path) -> None:
    """Seeds differ in the split alone, so their results may stand together; those of the whole table stand apart."""
    write(tmp_path)
    first, second = splits(tmp_path, "t", [0, 1], 40)
    assert first.name == second.name == label(tmp_path, "t", 40) == "t-40"
    assert first.frame.equals(second.frame)
    assert len(first.frame) == len(first.y) == 40
    assert first.frame["x"].is_unique
    assert list(first.train) != list(second.train)


def test_a_table_that_is_small_enough_is_taken_whole(tmp_path: Path) -> None:
    """No row is left out, and the name is the table's."""
    write(tmp_path)
    for rows in (None, 100, 500):
        (split,) = splits(tmp_path, "t", [0], rows)
        assert split.name == label(tmp_path, "t", rows) == "t"
        assert list(split.frame["x"]) == list(range(100))
