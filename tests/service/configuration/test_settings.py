"""Where settings come from, what stops the start, and the page about them."""

from pathlib import Path

import pytest

from batchproof.service.__main__ import main
from batchproof.service.cli.parts import settings_page
from batchproof.service.configuration import settings
from batchproof.service.configuration.setting_texts import flag_name
from batchproof.service.configuration.settings import Settings
from batchproof.service.errors import SettingError


def test_a_flag_goes_before_the_environment_before_the_file(tmp_path: Path) -> None:
    """Each source overrides the ones behind it, and the winner is named."""
    file = tmp_path / "settings.toml"
    file.write_text('port = 1\nworkers = 2\nthreads = 3\npins = { a = 4 }\nallowed_origins = ["https://a.example"]\n')
    environment = {"BATCHPROOF_PORT": "5", "BATCHPROOF_WORKERS": "6", "OTHER": "7"}
    loaded = settings.load({"port": "8"}, environment, file)
    assert (loaded.settings.port, loaded.settings.workers, loaded.settings.threads) == (8, 6, 3)
    assert loaded.settings.pins == {"a": 4}
    assert loaded.settings.allowed_origins == ("https://a.example",)
    sources = {name: loaded.sources[name] for name in ("port", "workers", "threads", "host")}
    assert sources == {"port": "flag", "workers": "environment", "threads": "file", "host": "default"}


def test_what_the_client_reads_is_no_setting() -> None:
    """A client's key in the environment keeps no service of the same environment from starting."""
    loaded = settings.load({}, {"BATCHPROOF_CLIENT_API_KEY": "k", "BATCHPROOF_PORT": "5"}, None)
    assert loaded.settings.port == 5


def test_the_environment_names_the_file(tmp_path: Path) -> None:
    """BATCHPROOF_SETTINGS is the file where no flag names one."""
    file = tmp_path / "settings.toml"
    file.write_text("port = 77\n")
    assert settings.load({}, {"BATCHPROOF_SETTINGS": str(file)}).settings.port == 77


def test_lists_and_pins_are_written_with_commas() -> None:
    """What has several parts is one text in a flag or an environment name."""
    loaded = settings.load({"pins": "a=1, b=2", "allowed_origins": "https://a.example, https://b.example"}, {})
    assert loaded.settings.pins == {"a": 1, "b": 2}
    assert loaded.settings.allowed_origins == ("https://a.example", "https://b.example")


@pytest.mark.parametrize(
    ("flags", "environment", "content", "sentence"),
    [
        ({"port": "seventy"}, {}, "", "--port is 'seventy', but port takes 0 to 65535"),
        ({}, {"BATCHPROOF_PORT": "65536"}, "", "BATCHPROOF_PORT is '65536', but port takes 0 to 65535"),
        ({}, {}, "workers = 0", "workers takes 1 to 256"),
        ({"timeout_s": "0"}, {}, "", "timeout_s takes above 0 to 3600"),
        ({"device": "gpu"}, {}, "", "device takes auto | cpu | cuda"),
        ({"pins": "a"}, {}, "", "pins takes NAME=VERSION"),
        ({"access_log": "perhaps"}, {}, "", "access_log takes true | false"),
        (
            {},
            {"BATCHPROOF_PROT": "1"},
            "",
            "Unknown setting 'BATCHPROOF_PROT' in the environment. Did you mean 'BATCHPROOF_PORT'?",
        ),
        ({}, {"BATCHPROOF_ZZZ": "1"}, "", "Unknown setting 'BATCHPROOF_ZZZ' in the environment."),
        ({}, {}, "prot = 1", "Did you mean 'port'?"),
        ({}, {}, "port = ", "cannot be read"),
    ],
)
def test_a_wrong_setting_is_one_sentence(
    tmp_path: Path, flags: dict[str, str], environment: dict[str, str], content: str, sentence: str
) -> None:
    """The sentence names the setting, where it was found and what it takes."""
    file = tmp_path / "settings.toml"
    file.write_text(content)
    with pytest.raises(SettingError) as refused:
        settings.load(flags, environment, file)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    """A settings file that is not there is no empty file."""
    with pytest.raises(SettingError, match=r"none\.toml cannot be read: No such file or directory\.$"):
        settings.load({}, {}, tmp_path / "none.toml")


def test_a_wrong_setting_ends_the_command_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    """The command line prints the sentence and nothing else."""
    assert main(["serve", "--port", "x"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_settings_prints_every_value_and_its_source(capsys: pytest.CaptureFixture[str]) -> None:
    """`batchproof settings` has a line for each setting."""
    assert main(["settings", "--port", "81", "--access-log"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert set(lines) == set(Settings.model_fields)
    assert "81" in lines["port"]
    assert "flag" in lines["port"]
    assert lines["access_log"].split()[1] == "true"
    assert lines["default_model"].split()[1] == "none"
    assert "BATCHPROOF_HOST" in lines["host"]


@pytest.mark.parametrize(
    "name, written", [("pins", "a=1,b=2"), ("allowed_origins", "https://a.example,https://b.example"), ("models", "m")]
)
def test_settings_prints_what_can_be_written(name: str, written: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A value is printed as a flag or an environment variable takes it."""
    assert main(["settings", flag_name(name), written]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines[name].split()[1] == written


def test_the_page_is_what_the_code_says(root: Path) -> None:
    """docs/settings.md is complete and current: write it anew with `batchproof settings --markdown`."""
    assert (root / "docs" / "settings.md").read_text(encoding="utf-8") == settings_page.markdown()


def test_every_setting_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """`batchproof serve --help` has each setting's flag and meaning."""
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name, field in Settings.model_fields.items():
        assert flag_name(name) in text
        assert " ".join(str(field.description).split())[:20] in text
