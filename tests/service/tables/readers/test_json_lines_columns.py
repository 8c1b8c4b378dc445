"""JSON Lines to an answer with columns: nothing that a line holds is lost in silence."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from batchproof.service.__main__ import main
from tests.bundles import INPUTS, make_bundle, random_rows, signature_of
from tests.live import live

ROWS = random_rows(signature_of("multiclass", INPUTS), 40, seed=3)
NAMES = [feature["name"] for feature in INPUTS]
NOTES = ['"a, \\"b\\" \\u00e9"', "12345678901234567890123", "1.10", "true", "null", '{"deep": [1, 2]}']
TEXTS = ['a, "b" é', "12345678901234567890123", "1.10", "true", None, '{"deep": [1, 2]}']
SUFFIXES = [".csv", ".tsv", ".parquet", ".arrow", ".arrows"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model's folder."""
    return make_bundle(tmp_path_factory.mktemp("models"), "flowers").parent


def line(row: Sequence[Any], **extra: str) -> str:
    """Return a row as a line that begins with its extra keys, whose values are JSON already."""
    own = json.dumps(dict(zip(NAMES, row, strict=True)))[1:]
    return "{" + "".join(f"{json.dumps(key)}: {value}, " for key, value in extra.items()) + own


def written(folder: Path, lines: Sequence[str]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(lines))
    return path


def predict(model: Path, source: Path, target: Path, *options: str) -> int:
    return main(["predict", str(model), str(source), str(target), "--extra", "ignore", *options])


def columns_of(path: Path) -> dict[str, list[Any]]:
    """Return the columns of an answer, in order."""
    if path.suffix in (".csv", ".tsv"):
        rows = list(csv.reader(io.StringIO(path.read_text()), delimiter="," if path.suffix == ".csv" else "\t"))
        return {name: list(column) for name, *column in zip(*rows, strict=True)}
    table: pa.Table
    if path.suffix == ".parquet":
        table = parquet.read_table(path)
    else:
        with path.open("rb") as file:
            table = (ipc.open_stream if path.suffix == ".arrows" else ipc.open_file)(file).read_all()
    return dict(table.to_pydict())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_extra_keys_go_along_as_they_are_written(
    model: Path, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first line names the columns, in its order; texts, numbers of any length and lists keep what they hold."""
    monkeypatch.setattr("batchproof.service.cli.predict.BLOCK_ROWS", 4)
    lines = [line(row, note=NOTES[place % len(NOTES)], id="7") for place, row in enumerate(ROWS)]
    lines[3] = line(ROWS[3])  # without the keys
    lines[5] = json.dumps(ROWS[5])  # a list
    target = tmp_path / f"answers{suffix}"

    assert predict(model, written(tmp_path, lines), target, "--part-rows", "12") == 0
    found = columns_of(target)
    absent = "" if suffix in (".csv", ".tsv") else None
    notes = [absent if text is None else text for text in (TEXTS[place % len(TEXTS)] for place in range(len(ROWS)))]
    notes[3] = notes[5] = absent
    assert list(found)[:10] == ["note", "id", *NAMES, "prediction"]
    assert found["note"] == notes
    assert found["id"] == [absent if place in (3, 5) else "7" for place in range(len(ROWS))]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("place", [1, 39])
@pytest.mark.parametrize("on_error", ["stop", "row"])
def test_a_key_that_the_first_line_lacks_is_refused(
    model: Path, tmp_path: Path, suffix: str, place: int, on_error: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The header is written by then: the line and the key are named, with the ways out, and nothing is left behind."""
    monkeypatch.setattr("batchproof.service.cli.predict.BLOCK_ROWS", 8)
    lines = [line(row, id="7") for row in ROWS]
    lines[place] = line(ROWS[place], late='"x"')
    source, target = written(tmp_path, lines), tmp_path / f"answers{suffix}"

    assert predict(model, source, target, "--on-error", on_error, "--part-rows", "16") == 2
    told = capsys.readouterr().err
    assert f"rows.jsonl: line {place + 1} has the key 'late', but the first line does not" in told
    assert "--answer alone" in told
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
    assert predict(model, source, target, "--answer", "alone") == 0
    assert predict(model, source, tmp_path / "all.jsonl") == 0
    assert '"late": "x"' in (tmp_path / "all.jsonl").read_text().splitlines()[place]


def test_a_value_that_is_nested_too_deep_is_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is refused by its line like any other that cannot be taken along; Python 3.12 and later read some levels more."""
    status = predict(model, written(tmp_path, [line(ROWS[0], id="[" * 1010 + "]" * 1010)]), tmp_path / "answers.csv")
    assert (status, "line 1 is nested too deeply." in capsys.readouterr().err) in ((2, True), (0, False))

    (tmp_path / "answers.csv").unlink(missing_ok=True)
    source = written(tmp_path, [line(ROWS[0], id="[" * 60_000 + "]" * 60_000)])
    assert predict(model, source, tmp_path / "answers.csv") == 2
    assert "rows.jsonl: line 1" in capsys.readouterr().err
    assert not (tmp_path / "answers.csv").exists()


def test_an_unreadable_line_is_an_empty_row(model: Path, tmp_path: Path) -> None:
    """With on_error=row the answer stays a table: no byte of a line that is no JSON, or has a key twice, goes along."""
    twice = '{"id": 1, "id": 2, ' + line(ROWS[0])[1:]
    source = written(tmp_path, ['{"id":,}', twice, line(ROWS[2], id="7")])

    assert predict(model, source, tmp_path / "answers.jsonl", "--on-error", "row") == 0
    answers = [json.loads(text) for text in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [list(answer) for answer in answers[:2]] == [["error"], ["error"]]
    assert answers[2]["id"] == 7
    assert predict(model, source, tmp_path / "answers.csv", "--on-error", "row") == 0
    found = columns_of(tmp_path / "answers.csv")
    assert found["id"] == ["", "", "7"]
    assert "given twice" in found["error"][1]


def test_a_body_of_rows_goes_along_too(model: Path) -> None:
    """Over HTTP a JSON body answered with a table has the same rule: a column for each key of its first row."""
    rows = [{"id": place, **dict(zip(NAMES, row, strict=True))} for place, row in enumerate(ROWS[:3])]
    with live(model.parent) as server:
        url = f"{server.url}/predict?extra=ignore"
        answer = httpx.post(url, json={"rows": rows}, headers={"accept": "text/csv"})
        refused = httpx.post(url, json={"rows": [*rows, {**rows[0], "late": 1}]}, headers={"accept": "text/csv"})

    found = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["id"] for row in found] == ["0", "1", "2"]
    assert refused.status_code == 422
    assert "Row 3 has the key 'late'" in refused.json()["error"]["message"]
