"""A wrong command line is one sentence of the command it was meant for."""

import pytest

from batchproof.service.__main__ import COMMANDS, main


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
