"""What the answer of a table says, and how a refusal of one is worded for its reader."""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from pyarrow import parquet

from batchproof.service.__main__ import main
from batchproof.service.errors import ServiceError
from batchproof.service.features.row_encoder import Problem
from batchproof.service.tables.parameters import Parameters
from batchproof.service.tables.writers.result_columns import Answered, refusal
from batchproof.service.tables.writers.text import prediction_texts
from tests.bundles import INPUTS, make_bundle, random_rows, signature_of
from tests.live import Live, live

FLAGS = Parameters(asked_in="flags")
WAY_OUT = "--on-error row answers the good rows and says what is wrong with the bad ones."


class Lines:
    """A block that begins at line 2."""

    rows = 9

    def place(self, row: int) -> tuple[str, int]:
        """Return the row's line."""
        return "line", row + 2


def refused(problems: int, parameters: Parameters) -> ServiceError:
    """Return the refusal of a block with so many problems."""
    block: Any = Lines()
    return refusal(block, [Problem(row, "x", "it is wrong") for row in range(problems)], 2, parameters)


@pytest.mark.parametrize(
    "problems, parameters, sentence",
    [
        (1, Parameters(), "line 2, feature 'x': it is wrong."),
        (4, Parameters(), "line 2, feature 'x': it is wrong. (3 more in details.)"),
        (1, FLAGS, f"line 2, feature 'x': it is wrong. {WAY_OUT}"),
        (4, FLAGS, f"line 2, feature 'x': it is wrong. 3 more were found; {WAY_OUT}"),
    ],
)
def test_a_refusal_is_worded_for_its_reader(problems: int, parameters: Parameters, sentence: str) -> None:
    """An answer has details to point at; a command has none, and names the flag that shows every fault."""
    found = refused(problems, parameters)
    assert found.message == sentence
    assert (len(found.details), found.truncated) == (min(problems, 2), problems > 2)


def test_bad_rows_are_written_in_time_that_grows_with_them() -> None:
    """The problems of a block are looked at a few times each, not all of them once for each bad row."""
    rows, looks = 2048, 0

    class Row(int):
        """A row's number that counts how often it is compared."""

        __hash__ = int.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal looks
            looks += 1
            return int(self) == other

    block: Any = Lines()
    block.rows = rows
    problems = [Problem(Row(row), name, "it is wrong") for row in range(rows) for name in "abc"]
    text: Any = None  # of the good rows, of which there are none
    texts = prediction_texts(text, Answered(block, [], {}, problems))
    assert [json.loads(one)["error"]["details"][2]["feature"] for one in texts] == ["c"] * rows
    assert looks < 10 * len(problems)


def test_the_command_names_its_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`batchproof predict` says no word of details, which it does not print."""
    rows = [
        dict(zip((feature["name"] for feature in INPUTS), row, strict=True)) for row in random_rows(signature_of(), 5)
    ]
    source, target = tmp_path / "rows.parquet", tmp_path / "answers.csv"
    parquet.write_table(pa.Table.from_pylist([{**row, "count": None} for row in rows]), source)
    model = make_bundle(tmp_path / "models").parent

    assert main(["predict", str(model), str(source), str(target)]) == 2
    told = capsys.readouterr().err
    assert told.endswith(f"4 more were found; {WAY_OUT}\n")
    assert "details" not in told


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model's folder."""
    return make_bundle(tmp_path_factory.mktemp("models")).parent


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Live]:
    """Return a server of that model."""
    with live(model.parent) as found:
        yield found


def with_column(folder: Path, suffix: str, name: str) -> Path:
    """Return a table of five rows whose last column is called `name`."""
    names = [feature["name"] for feature in INPUTS]
    rows = [dict(zip([*names, name], [*row, "x"], strict=True)) for row in random_rows(signature_of(), 5)]
    path = folder / f"rows{suffix}"
    if suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, [dict(list(rows[0].items())[:-1]), *rows[1:]])))  # not the first line
    else:
        with path.open("w") as file:
            writer = csv.DictWriter(file, rows[0], delimiter="\t" if suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


SUFFIXES = [".csv", ".tsv", ".jsonl", ".parquet"]
TAKEN: Sequence[tuple[str, tuple[str, ...]]] = (
    ("prediction", ()),
    ("error", ("--on-error", "row")),
    ("p\u00e4_prediction", ("--prefix", "p\u00e4_")),
)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name, options", TAKEN, ids=lambda one: str(one[:1]))
def test_lines_have_no_key_twice(
    model: Path, tmp_path: Path, suffix: str, name: str, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """A table of any format that has a key which JSON Lines would add, however it is spelled there, is refused."""
    source, target = with_column(tmp_path, suffix, name), tmp_path / "answers.jsonl"
    command = ["predict", str(model), str(source), str(target), "--extra", "ignore"]

    assert main([*command, *options]) == 2
    where = "line 2: the key" if suffix == ".jsonl" else "the table's column"
    assert f"{where} {name!r} has the same name as a result column. Use --prefix" in capsys.readouterr().err
    assert not target.exists()
    assert main([*command, *options, "--prefix", "new_"]) == 0
    answers = [json.loads(line) for line in target.read_text().splitlines()]
    assert all("new_prediction" in answer for answer in answers)
    assert all(answer[name] == "x" for answer in answers[1:])


@pytest.mark.parametrize("suffix, media_type", [(".csv", "text/csv"), (".jsonl", "application/jsonlines")])
def test_an_answer_in_lines_is_refused_likewise(server: Live, tmp_path: Path, suffix: str, media_type: str) -> None:
    """Over HTTP it is a plain refusal, which names the parameter that makes room."""
    body = with_column(tmp_path, suffix, "prediction").read_bytes()
    headers = {"content-type": media_type, "accept": "application/jsonlines"}
    refusal = httpx.post(f"{server.url}/predict?extra=ignore", content=body, headers=headers)

    assert refusal.status_code == 422
    assert "'prediction' has the same name as a result column. Use prefix=" in refusal.json()["error"]["message"]
    answer = httpx.post(f"{server.url}/predict?extra=ignore&prefix=p_", content=body, headers=headers)
    assert all("p_prediction" in json.loads(line) for line in answer.text.splitlines())
