"""What the answer of a table says, and how a refusal of one is worded for its reader."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from service.__main__ import main
from service.errors import ServiceError
from service.features import Problem
from service.tables.parameters import Parameters
from service.tables.predictions import refusal
from tests.bundles import INPUTS, make_bundle, random_rows, signature_of

FLAGS = Parameters(are_flags=True)
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
