"""Wrong arguments: one sentence each, exit code 2, and the nearest option where one is unknown."""

import pytest

from batchproof.training.__main__ import main, make_parser
from batchproof.training.cli import compare as compare_command
from batchproof.training.cli import exact as exact_command
from batchproof.training.cli import prove as prove_command


@pytest.mark.parametrize(
    "given, sentence",
    [
        (
            ["t.csv", "--widths", "abc"],
            "argument --widths: 'abc' is not a list of whole numbers separated by commas, such as 256,256.",
        ),
        (["t.csv", "--epochs", "many"], "argument --epochs: 'many' is not a whole number such as 10."),
        (["t.csv", "--dropout", "x"], "argument --dropout: 'x' is not a number such as 0.1."),
        (["t.csv", "--dorp", "id"], "unknown option '--dorp'. Did you mean '--drop'?"),
        (["t.csv", "--widht=3"], "unknown option '--widht'. Did you mean '--widths'?"),
        (["t.csv", "--zzz"], "unknown option '--zzz'."),
        ([], "the following arguments are required: TABLE."),
    ],
)
def test_one_sentence(capsys: pytest.CaptureFixture[str], given: list[str], sentence: str) -> None:
    """What was wrong and what would be right stand in one line, which ends in where to read on."""
    with pytest.raises(SystemExit) as ended:
        main(given)
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"batchproof-train: {sentence} See batchproof-train --help\n"


@pytest.mark.parametrize("command", [compare_command, exact_command, prove_command])
def test_every_command_refuses_alike(capsys: pytest.CaptureFixture[str], command: object) -> None:
    """The commands beside training know no other way to refuse."""
    with pytest.raises(SystemExit):
        command.main(["t.csv", "--hepl"])  # type: ignore[attr-defined]
    assert "unknown option '--hepl'. Did you mean '--help'?" in capsys.readouterr().err


def test_what_follows_two_dashes_is_no_option() -> None:
    """A table may have a name that looks like an option."""
    assert make_parser().parse_args(["--target", "y", "--", "--odd.csv"]).table.name == "--odd.csv"


def test_values_may_hold_an_equals_sign() -> None:
    """`--drop=a=b` drops the column a=b."""
    assert make_parser().parse_args(["t.csv", "--drop=a=b"]).drop == ["a=b"]
