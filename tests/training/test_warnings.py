"""What a run says of its table: at the end, in bundle.json and in the report; and a run that the disk ends."""

import errno
import io
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from batchproof.training import pipeline
from batchproof.training.__main__ import main
from tests.training.quick import quick

QUICK = [*quick("Y", widths=4, epochs=1), "--rare-rows", "1"]
ROWS = [f"${row * 7 % 23}.5,{'ab'[row % 2]},{row % 5},N{row}" for row in range(60)]
TABLE = "Price,W,Y,Id\n" + "".join(f"{row}\n" for row in ROWS)


def test_warnings_stand_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All warnings stand at the end of a run on standard input, and the same ones in bundle.json and in the report."""
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(TABLE.encode())))
    code = main(["-", *QUICK, "--task", "regression", "--models", str(tmp_path), "--name", "m", "--quiet"])
    printed = capsys.readouterr().out.splitlines()
    places = [place for place, line in enumerate(printed) if line.startswith("warning: ")]

    assert code == 0
    assert places == list(range(places[0], len(printed) - 2))
    warnings = [printed[place] for place in places]
    assert (
        "warning: column 'Price': its values are numbers, read without $; --text Price keeps the column as text."
        in warnings
    )
    assert any("column 'Id' is left out: like an identifier" in line and "--keep Id" in line for line in warnings)
    content = json.loads((tmp_path / "m" / "1" / "bundle.json").read_bytes())
    assert content["provenance"]["warnings"] == warnings
    assert content["signature"]["ignored"] == ["Id"]
    assert content["signature"]["inputs"][0]["text_rule"]["affixes"] == ["$"]
    report = (tmp_path / "m" / "1" / "report.html").read_text()
    assert "Column &#x27;Price&#x27;: its values are numbers, read without $; --text Price keeps" in report


def test_a_full_disk_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the disk is full while a run writes, one sentence says so, and there is no bundle."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "t.csv"
    path.write_text(TABLE)
    monkeypatch.setattr(pipeline, "prepare", full)
    assert main([str(path), *QUICK, "--models", str(tmp_path / "models"), "--quiet"]) == 1
    error = capsys.readouterr().err
    assert error == "batchproof-train: the run stopped without a bundle: [Errno 28] No space left on device.\n"
    assert not list(tmp_path.glob("models/**/bundle.json"))
