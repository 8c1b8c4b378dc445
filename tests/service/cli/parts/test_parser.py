"""A wrong command line is one sentence of the command it was meant for."""

import pytest

from batchproof.service.__main__ import COMMANDS, main
from batchproof.service.cli.parts.parser import Arguments


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["serve", "--bogus"], "batchproof serve: unknown option '--bogus'. See batchproof serve --help\n"),
        (
            ["serve", "--worker=2"],
            "batchproof serve: unknown option '--worker'. Did you mean '--workers'? See batchproof serve --help\n",
        ),
        (["settings", "more"], "batchproof settings: unexpected argument 'more'. See batchproof settings --help\n"),
        (
            ["verify", "models", "--row", "5"],
            "batchproof verify: unknown option '--row'. Did you mean '--rows'? See batchproof verify --help\n",
        ),
        (
            ["predict", "models"],
            "batchproof predict: the following arguments are required: INPUT, OUTPUT. See batchproof predict --help\n",
        ),
    ],
)
def test_wrong_argument_is_told_by_its_command(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command's name, what was wrong and the nearest option; no usage of forty lines; exit code 2."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 2
    assert capsys.readouterr().err == sentence


@pytest.mark.parametrize("arguments", [["--help"], [], ["sevre"]])
def test_every_command_is_listed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Without a command that there is, all of them are named, but for no command at all, which is asked for."""
    with pytest.raises(SystemExit):
        main(arguments)
    told = capsys.readouterr()

    assert all(name in told.out + told.err for name in COMMANDS if arguments)
    assert bool(told.err) == (arguments != ["--help"])


def test_a_value_may_begin_with_a_dash() -> None:
    """What follows an option that takes a value is its value, unless it is an option too; behind `--` nothing is joined."""
    parser = Arguments(prog="p")
    parser.add_argument("--size")
    parser.add_argument("--flag", action="store_true")
    parser.add_argument("-o")
    parser.add_argument("rest", nargs="*")

    assert vars(parser.parse_args(["--size", "-1GB"])) == {"size": "-1GB", "flag": False, "o": None, "rest": []}
    assert parser.parse_args(["-o", "-x"]).o == "-x"
    assert parser.parse_args(["--flag", "--", "--size", "-1GB"]).rest == ["--size", "-1GB"]
    for words in (["--size", "-o", "x"], ["--size", "--flag"], ["--size", "--", "-1GB"], ["--flag", "-1GB"]):
        with pytest.raises(SystemExit, match="2"):
            parser.parse_args(words)
