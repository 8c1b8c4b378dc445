"""The command line: help, exit codes, one sentence for each fault, and nothing written where it fails."""

import atexit
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchproof.training import pipeline as line
from batchproof.training.__main__ import COMMANDS, collecting_rarely, main, make_parser
from batchproof.training.network.parity import ParityError
from batchproof.training.option_groups import GROUPS

GOOD = "x,w,y\n" + "".join(f"{row * 7 % 23},{'ab'[row % 2]},{row % 2}\n" for row in range(40))


def run(folder: Path, table: str | bytes, *flags: str) -> int:
    """Run the command on a table in `folder`, with models/ beside it."""
    path = folder / "t.csv"
    path.write_bytes(table.encode() if isinstance(table, str) else table)
    return main([str(path), "--models", str(folder / "models"), "--quiet", *flags])


def test_help() -> None:
    """--help has every group with its sentence, and names the other commands."""
    text = make_parser().format_help()
    for sentence in GROUPS.values():
        assert sentence in text
    for command in COMMANDS:
        assert f"\n  {command} " in text


@pytest.mark.parametrize(
    "table, flags, sentence",
    [
        (GOOD, [], "no target: name the column to predict with --target COLUMN."),
        (GOOD, ["--target", "z"], "--target names 'z', but there is no such column"),
        (GOOD, ["--target", "y", "--epochs", "0"], "--epochs is 0: it must be between 1 and 1000000."),
        ("", ["--target", "y", "--encoding", "foo"], "use one of plain, bins, quantile, tree, waves."),
        (GOOD, ["--target", "y", "--name", "a/b"], "'a/b' cannot name a model"),
        (GOOD, ["--target", "y", "--settings", "absent.toml"], "the settings file absent.toml cannot be read"),
        ("", ["--target", "y", "--resume"], "there is no checkpoint"),  # said before the table is read
        ("", ["--target", "y"], "t.csv is empty."),
        ("x,y\n", ["--target", "y"], "has a header but no rows."),
        ("x,x,y\n1,2,3\n", ["--target", "y"], "has 2 columns named 'x'"),
        (b"x,y\n\xff,1\n", ["--target", "y"], "line 2, column 'x', is not UTF-8 (byte 0xff)"),
        (GOOD.replace(",1\n", ",0\n"), ["--target", "y"], "is 0 in every row: there is nothing to predict."),
        (
            GOOD.replace(",1\n", ",inf\n"),
            ["--target", "y"],
            "has no finite value in 20 rows, the first is line 3: fill in the values",
        ),
        ("x,e,y\n" + "1,,0\n2,,1\n" * 9, ["--target", "y"], "column 'e' has no value in any row"),
    ],
)
def test_refusals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], table: str | bytes, flags: list[str], sentence: str
) -> None:
    """Bad input ends with exit code 2, one sentence on standard error, and nothing written."""
    assert run(tmp_path, table, *flags) == 2
    errors = capsys.readouterr().err.splitlines()
    assert sentence in errors[-1]
    assert errors[-1].startswith("batchproof-train: ")
    assert not (tmp_path / "models").exists()


def test_a_taken_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A version that exists is refused before anything is fitted."""
    (tmp_path / "models" / "t" / "3").mkdir(parents=True)
    assert run(tmp_path, GOOD, "--target", "y", "--version", "3") == 2
    assert "version 3 of 't' exists already" in capsys.readouterr().err


@pytest.mark.parametrize("blocked", ["models", "models/t"])
def test_a_folder_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str], blocked: str) -> None:
    """A file where the folder should be is refused before the table is read, and nothing is left beside it."""
    (tmp_path / blocked).parent.mkdir(exist_ok=True)
    (tmp_path / blocked).write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    assert run(tmp_path, "", "--target", "y") == 2
    assert f"{tmp_path / blocked} is a file, not a folder." in capsys.readouterr().err
    assert [path for path in sorted(tmp_path.rglob("*")) if path.name != "t.csv"] == before


def test_an_absent_device(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that is not there is refused before the table is read."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert run(tmp_path, "", "--target", "y", "--device", "cuda") == 2
    assert "torch finds no CUDA device here; use cpu or auto." in capsys.readouterr().err


def test_a_folder_that_takes_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file system that takes no new folder is refused before the table is read."""
    assert run(tmp_path, "", "--target", "y", "--models", "/proc/models") == 2
    assert "cannot be written to" in capsys.readouterr().err


def test_flags_win_over_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A flag and the settings file may say the same setting: the flag holds."""
    file = tmp_path / "s.toml"
    file.write_text('target = "y"\nepochs = 5\n')
    assert run(tmp_path, GOOD, "--settings", str(file), "--epochs", "-1") == 2
    assert "--epochs is -1" in capsys.readouterr().err


@pytest.mark.parametrize("fault, code", [(KeyboardInterrupt(), 130), (ParityError("the fold stage broke."), 1)])
def test_exit_codes(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    fault: BaseException,
    code: int,
) -> None:
    """A second Ctrl-C and a failed check of ours have exit codes and sentences of their own."""

    def fail(*_: object) -> None:
        raise fault

    monkeypatch.setattr("batchproof.training.pipeline.train", fail)
    assert run(tmp_path, GOOD, "--target", "y") == code
    assert (str(fault) or "no bundle was written") in capsys.readouterr().err


def test_every_command_ends_at_ctrl_c(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the table is read, torch loads or methods are compared is one sentence, never a traceback."""

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("batchproof.training.data.dataset.prepare", fail)
    (tmp_path / "t.csv").write_text(GOOD)
    assert main(["compare", str(tmp_path / "t.csv"), "--target", "y"]) == 130
    assert capsys.readouterr().err == "\nbatchproof-train: stopped; no bundle was written\n"


def test_a_wrong_flag_is_told_before_torch_loads(root: Path) -> None:
    """Help and refused settings need no torch, which takes seconds to load."""
    code = "import sys; from batchproof.training.__main__ import main; assert main(['t.csv']) == 2; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True, capture_output=True)


def test_extreme_values_train(tmp_path: Path) -> None:
    """The greatest features, denormal ones, the ends of int64 and the greatest target end in a bundle, without a warning."""
    random = np.random.default_rng(0)
    x = np.clip(random.normal(size=90) / 3, -1.0, 1.0)
    whole = random.choice([-(2**63), 2**63 - 1, 0], 90)
    table = pa.table({"great": x * 1e100, "small": x * 1e-310, "whole": whole, "y": x * 1e30})
    pq.write_table(table, tmp_path / "extreme.parquet")
    given = ["--target", "y", "--epochs", "1", "--widths", "4", "--ensemble", "1", "--models", str(tmp_path)]
    assert main([str(tmp_path / "extreme.parquet"), *given]) == 0


def test_the_seconds_told_are_the_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`wrote … in` counts from the command's start, loading of libraries included, not from the first look at the table."""
    started = time.monotonic()
    monkeypatch.setattr("batchproof.training.__main__.time.monotonic", lambda: started - 3600)
    train = line.train

    def as_called(*given: Any) -> object:
        monkeypatch.undo()
        return train(*given)

    monkeypatch.setattr(line, "train", as_called)
    assert run(tmp_path, GOOD, "--target", "y", "--epochs", "1", "--widths", "4", "--ensemble", "1") == 0
    assert " in 60 min " in capsys.readouterr().out


def test_the_card_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is stated at training is in the bundle, in its report and on the card, with the intervals of the metrics."""
    said = ["--intended-use", "Teaching <b>only</b>", "--licence", "MIT", "--card", str(tmp_path / "README.md")]
    fast = ["--epochs", "1", "--widths", "4", "--ensemble", "1", "--encoding", "plain"]
    assert run(tmp_path, GOOD, "--target", "y", *fast, *said) == 0
    bundle = tmp_path / "models" / "t" / "1"
    content = json.loads((bundle / "bundle.json").read_text())
    report, card = (bundle / "report.html").read_text(), (tmp_path / "README.md").read_text()

    assert f"wrote {tmp_path / 'README.md'}" in capsys.readouterr().out
    assert "card" not in content["provenance"]["settings"]
    assert content["metrics"]["intervals"].keys() == {"accuracy", "log_loss", "auc"}
    for name, (low, high) in content["metrics"]["intervals"].items():
        assert low <= content["metrics"][name] <= high
        assert f"{low:.4g} to {high:.4g}" in card
    assert "| Expected calibration error | " in card
    assert 'license: "mit"' in card
    assert "Teaching \\<b\\>only\\</b\\>" in card
    assert "Teaching &lt;b&gt;only&lt;/b&gt;" in report
    assert "There were only 8 test rows, so the metrics are uncertain." in report


def test_a_card_without_a_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A card that cannot be written where it is wanted is refused before anything is fitted."""
    assert run(tmp_path, GOOD, "--target", "y", "--card", str(tmp_path / "no" / "README.md")) == 2
    assert f"there is no folder {tmp_path / 'no'}." in capsys.readouterr().err


def test_a_second_call_leaves_nothing_more_behind() -> None:
    """A program may call the command as often as it likes: what is done at the end of the process is registered once."""
    with collecting_rarely():
        pass
    registered = atexit._ncallbacks()
    with collecting_rarely():
        pass
    assert atexit._ncallbacks() == registered
