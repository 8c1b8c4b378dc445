"""The file of keys: what it may say, and how it is written."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from batchproof.service.__main__ import main
from batchproof.service.access import keys_file
from batchproof.service.access.watched_file import WatchedFile
from batchproof.service.errors import SettingError

DIGEST = "ab" * 32


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def entry(**changed: str) -> str:
    values = {"name": '"ada"', "sha256": f'"{DIGEST}"', "scopes": '["predict"]', **changed}
    return keys_file.HEADER + "\n" + "\n".join(f"{name} = {value}" for name, value in values.items()) + "\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("keys = 1", "must hold nothing but entries"),
        ("[key]\n", "must hold nothing but entries"),
        ("[[keys]\n", "cannot be read"),
        (entry(name='""'), "key 1 (''): name"),
        (entry(name='"a b"'), "name: string should match"),
        (entry(sha256='"123"'), "sha256: string should match"),
        (entry(certificate='"*.example.org"'), "needs either sha256 or certificate"),
        (entry(scopes="[]"), "Scopes are predict, read, admin, metrics."),
        (entry(scopes='["write"]'), "Scopes are predict, read, admin, metrics."),
        (entry(scope='["read"]'), "Did you mean 'scopes'?"),
        (entry(models='["a b"]'), "models.0"),
        (entry(requests_per_s="0"), "requests_per_s: input should be greater than 0"),
        (entry(not_after='"soon"'), "not_after"),
        (entry() + entry(), "key 2 ('ada') is in the file twice"),
        (entry() + entry(sha256=f'"{"cd" * 32}"', rows_per_s="5"), "the keys of 'ada' must agree"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    """Whatever is wrong with the file is one sentence that names the file, the key and what would be right."""
    path = written(tmp_path / "keys.toml", text)
    with pytest.raises(SettingError) as caught:
        keys_file.read(path)
    assert sentence in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """A file that is not there, or is no text, is one sentence."""
    with pytest.raises(SettingError, match=r"keys\.toml cannot be read: No such file"):
        keys_file.read(tmp_path / "keys.toml")
    (tmp_path / "keys.toml").write_bytes(b"\xff")
    with pytest.raises(SettingError, match=r"keys\.toml cannot be read"):
        keys_file.read(tmp_path / "keys.toml")


def test_a_key_is_found_by_its_digest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`key new` prints a key of 46 characters once; the file holds only its SHA-256, and grants what was asked."""
    file = tmp_path / "keys.toml"
    flags = ["--scope", "predict", "--scope", "read", "--model", "price-*", "--not-after", "2999-01-31", "--requests-per-s",
             "2.5", "--file", str(file)]  # fmt: skip
    assert main(["key", "new", "reporting", *flags]) == 0
    key = capsys.readouterr().out.strip()

    assert re.fullmatch(r"bp_[A-Za-z0-9_-]{43}", key)
    assert key not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    grant = keys_file.read(file).grant(key.encode())
    assert grant is not None
    assert (grant.name, grant.scopes, grant.models) == ("reporting", {"predict", "read"}, ("price-*",))
    assert grant.account.limits.requests_per_s == 2.5
    assert keys_file.read(file).grant(key.encode() + b"x") is None


def test_two_keys_of_a_name_share_an_account(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For rotation a name may have two keys at once; the old one is removed by the first digits of its digest."""
    file = written(tmp_path / "keys.toml", "# the reporting team\n")
    for _ in range(2):
        assert main(["key", "new", "ada", "--scope", "predict", "--rows-per-s", "10", "--file", str(file)]) == 0
    old, new = capsys.readouterr().out.split()
    ring = keys_file.read(file)
    first, second = ring.grant(old.encode()), ring.grant(new.encode())
    assert first is not None
    assert second is not None
    assert first.account is second.account

    assert main(["key", "remove", "ada", "--file", str(file)]) == 2
    assert "has 2 keys" in capsys.readouterr().err
    assert main(["key", "remove", "ada", "--sha256", keys_file.digest_of(old)[:8], "--file", str(file)]) == 0
    ring = keys_file.read(file, previous=ring)
    assert ring.grant(old.encode()) is None
    renewed = ring.grant(new.encode())
    assert renewed is not None
    assert renewed.account is second.account
    assert file.read_text().startswith("# the reporting team\n")


def test_limits_are_shared_by_workers(tmp_path: Path) -> None:
    """Each of four workers allows a quarter."""
    file = written(tmp_path / "keys.toml", entry(requests_per_s="8", rows_per_s="100"))
    limits = keys_file.read(file, workers=4).accounts["ada"].limits

    assert (limits.requests_per_s, limits.rows_per_s) == (2, 25)


def test_new_limits_make_a_new_account(tmp_path: Path) -> None:
    """An owner whose limits change starts with a full account; one whose limits stay goes on with the old one."""
    file = written(tmp_path / "keys.toml", entry(rows_per_s="100"))
    ring = keys_file.read(file)
    assert keys_file.read(file, previous=ring).accounts["ada"] is ring.accounts["ada"]
    written(file, entry(rows_per_s="200"))
    assert keys_file.read(file, previous=ring).accounts["ada"] is not ring.accounts["ada"]


def test_validity_ends_with_its_day(tmp_path: Path) -> None:
    """A date is valid to its last second, a moment without a zone is UTC, and a moment with one is that moment."""
    ends = {}
    for written_end in ("1970-01-01", "1970-01-02T00:00:00", "1970-01-02T02:00:00+02:00"):
        file = written(tmp_path / "keys.toml", entry(not_after=written_end))
        grant = next(iter(keys_file.read(file)._grants.values()))
        assert grant.not_after_s is not None
        ends[written_end] = round(grant.not_after_s)
    assert set(ends.values()) == {86400}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["new", "ada", "--scope", "write"], "Unknown scope 'write'"),
        (["new", "a b", "--scope", "read"], "name: string should match"),
        (["new", "ada", "--scope", "read", "--model", "a b"], "models.0"),
        (["remove", "ada"], "has no such key of 'ada'"),
        (["list", "--file", "absent.toml"], "absent.toml cannot be read"),
    ],
)
def test_a_wrong_command_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    """A command that cannot be carried out says why in one sentence, ends with 2 and leaves the file as it was."""
    monkeypatch.chdir(tmp_path)
    file = written(tmp_path / "keys.toml", entry(name='"adam"'))
    assert main(["key", *words]) == 2

    assert sentence in capsys.readouterr().err
    assert file.read_text() == entry(name='"adam"')


def test_list_shows_no_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`key list` shows whose key it is, the start of its digest, scopes, models, limits and end."""
    file = written(tmp_path / "keys.toml", entry(rows_per_s="100", not_after="2999-01-01", models='["price-*"]'))
    assert main(["key", "list", "--file", str(file)]) == 0

    assert capsys.readouterr().out == f"ada  {DIGEST[:12]}  predict  price-*  100 rows/s  until 2999-01-01\n"


@pytest.mark.parametrize(
    "text",
    [
        f"keys = [{{name = 'ada', sha256 = '{DIGEST}', scopes = ['predict']}}, {{name = 'bob', sha256 = '{'cd' * 32}', scopes = ['read']}}]",
        f"[[ keys ]]\nname = 'ada'\nsha256 = \"{DIGEST}\"\nscopes = ['predict']\n[[ keys ]]\nname = 'bob'\nsha256 = '{'cd' * 32}'\nscopes = ['read']\n",
        f"[[keys]]\nname = 'ada'\nsha256 = '{DIGEST}'\nscopes = ['predict']\n",
    ],
)
def test_a_key_is_removed_or_the_file_is_left(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Where an entry is written in another way, `remove` says so: it neither takes out others nor claims to have removed it."""
    file = written(tmp_path / "keys.toml", text)

    assert main(["key", "remove", "ada", "--file", str(file)]) == 2
    assert file.read_text() == text
    assert "by hand" in capsys.readouterr().err


def test_commands_at_a_time_lose_no_key(tmp_path: Path) -> None:
    """Keys that are made at the same moment are all in the file."""
    file, code = (
        tmp_path / "keys.toml",
        "import sys; from batchproof.service.__main__ import main; sys.exit(main(sys.argv[1:]))",
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, "key", "new", f"k{number}", "--scope", "read", "--file", str(file)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for number in range(4)
    ]  # fmt: skip
    assert [process.wait(60) for process in started] == [0] * 4
    assert {key.name for key in keys_file.read_keys(file)} == {"k0", "k1", "k2", "k3"}


def test_a_file_is_read_once_it_stays_the_same(tmp_path: Path) -> None:
    """A file that is being written is not read: half an entry may say more than the whole one."""
    file = written(tmp_path / "keys.toml", entry())
    watched = WatchedFile(file)
    assert not watched.is_due()
    for text in ("[[keys]]", entry()[:40], entry() * 2):
        written(file, text)
        assert not watched.is_due()
    assert watched.is_due()
    assert not watched.is_due()
    file.unlink()
    assert not watched.is_due()
    assert watched.is_due()


def test_what_is_marked_as_read_is_no_change(tmp_path: Path) -> None:
    """Who reads a file without waiting for a change says so, and does not read it a second time for it."""
    file = written(tmp_path / "keys.toml", entry())
    watched = WatchedFile(file)
    written(file, entry() * 2)
    assert watched.is_due(at_once=True)
    assert not watched.is_due()
    assert not watched.is_due()
