"""Rows of one source raise no alarm, through everything that training and service do; changed columns do."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench import drift

ROWS = 12_000


def write(folder: Path) -> None:
    """Write a table with long tails, ties, rare categories and missing values."""
    random = np.random.default_rng(11)
    income = random.lognormal(10, 1, ROWS)
    city = np.array([f"city {number}" for number in random.zipf(1.6, ROWS) % 500])
    columns = {
        "income": np.where(random.random(ROWS) < 0.1, np.nan, income.round(2)),
        "children": random.poisson(0.7, ROWS),
        "city": city,
        "since": np.datetime64("2020-01-01") + random.integers(0, 900, ROWS),
        "owner": random.random(ROWS) < 0.97,
        "late": np.where(income + random.normal(0, 1e4, ROWS) > 22_000, "no", "yes"),
    }
    pq.write_table(
        pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()}),
        folder / "loans.parquet",
    )
    (folder / "meta.json").write_text(json.dumps({"loans": {"target": "late"}}))


def test_unchanged_windows_raise_no_alarm_and_changed_ones_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 200 windows at most one has a false alarm; half a deviation and foreign values in a twentieth are found.

    At the promised rate of 1 in 1 000, two or more of 200 have a chance below 2 %.
    """
    write(tmp_path)
    monkeypatch.setattr(sys, "argv", ["drift", str(tmp_path), "--only", "loans", "--windows", "200"])
    drift.main()
    _, line = capsys.readouterr().out.splitlines()
    name, windows, _, alarms, *counts, _ = line.split()
    assert (name, int(windows) >= 200, int(alarms) <= 1) == ("loans", True, True)
    moved, of_moved, foreign, of_foreign = (int(word) for word in counts if word != "of")
    assert moved == of_moved > 100
    assert foreign >= 0.85 * of_foreign > 200, "one column has many unseen categories in training too"
