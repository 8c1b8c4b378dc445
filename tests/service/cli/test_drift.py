"""`batchproof drift`: 0 where nothing changed, 1 where something did, 2 and one sentence where it cannot be asked."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from batchproof.service.__main__ import main
from tests.bundles import INPUTS, make_bundle, random_rows, signature_of

NAMES = [feature["name"] for feature in INPUTS]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("models")
    make_bundle(models, reference_rows=8000)
    make_bundle(models, "price", task="regression", reference_rows=8000)
    make_bundle(models, "old")
    return models


def write(folder: Path, rows: list[list[Any]], name: str = "t.csv") -> Path:
    path = folder / name
    if name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(dict(zip(NAMES, row, strict=True))) + "\n" for row in rows))
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([NAMES, *rows])
    return path


def drift(*arguments: object) -> int:
    return main(["drift", "--device", "cpu", *map(str, arguments)])


def fresh(rows: int = 1500, seed: int = 77) -> list[list[Any]]:
    return random_rows(signature_of(), rows, seed)


@pytest.mark.parametrize("model", ["flowers", "flowers/1", "price"])
@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_unchanged_rows(
    tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str], model: str, name: str
) -> None:
    """Rows of the training rows' source drift nowhere, whatever the format and the task."""
    assert drift(models / model, write(tmp_path, fresh(), name)) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("feature")
    assert printed.endswith("1500 rows beside 8000 of training: no drift\n")


def test_changed_rows(tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The features that changed are named in the table, in the last line and in JSON."""
    rows = fresh()
    for row in rows[::8]:
        row[1], row[2] = "Osloo", 5000
    path = write(tmp_path, rows)
    assert drift(models / "flowers", path) == 1
    lines = capsys.readouterr().out.splitlines()
    marked = {tuple(line.split()[:2]) for line in lines if line.endswith("  drifted")}
    assert {("island", "unseen"), ("count", "out_of_range"), ("count", "psi")} <= marked
    assert {name for name, _ in marked} <= {"island", "count", "colour"}

    assert drift(models / "flowers", path, "--json") == 1
    content = json.loads(capsys.readouterr().out)
    assert (content["model"], content["version"], content["rows"], content["training_rows"]) == (
        "flowers",
        1,
        1500,
        8000,
    )
    assert {(one["feature"], one["kind"]) for one in content["figures"] if one["drift"]} == marked
    assert set(content["drifted"]) == {name for name, _ in marked}


def test_bad_rows_stop_or_are_counted(tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bad row is refused with its place or, on request, left out and counted."""
    rows = fresh()
    rows[3][2] = "many"
    path = write(tmp_path, rows)
    assert drift(models / "flowers", path) == 2
    assert "feature 'count'" in capsys.readouterr().err
    assert drift(models / "flowers", path, "--on-error", "row") == 0
    assert "1499 rows (1 bad rows left out)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "model, rows, sentence",
    [
        ("flowers", 999, "t.csv has 999 rows: drift can be distinguished from chance only with 1000 rows or more."),
        ("old", 1500, "it has no statistics of its training rows (reference.json): train the model again."),
        ("absent", 1500, "absent"),
    ],
)
def test_what_cannot_be_answered(
    tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str], model: str, rows: int, sentence: str
) -> None:
    """Too few rows, a bundle without statistics and a model that is not there are one sentence and status 2."""
    assert drift(models / model, write(tmp_path, fresh(rows))) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert sentence in printed.err
    assert printed.err.count("\n") == 1


def test_a_table_that_is_not_there(tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing file, an unknown ending and an unknown column are refused by name."""
    assert drift(models / "flowers", tmp_path / "absent.csv") == 2
    assert "absent.csv" in capsys.readouterr().err
    assert drift(models / "flowers", write(tmp_path, fresh()).rename(tmp_path / "t.xls")) == 2
    assert ".xls" in capsys.readouterr().err
