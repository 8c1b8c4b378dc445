"""Two runs with SOURCE_DATE_EPOCH set write the same bytes, however fast the machine is."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from batchproof.training.__main__ import main
from tests.training.quick import quick


@pytest.mark.parametrize("speed", [0.02, 50.0])
def test_time_changes_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, speed: float) -> None:
    """The check of batch invariance in the report compares as many rows on a fast machine as on a slow one."""
    rows = [f"{number / 7:.3f},{number % 3 + number / 50:.3f}" for number in range(90)]
    (tmp_path / "t.csv").write_text("\n".join(["a,y", *rows]))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    flags = [*quick("y", widths=4, epochs=1), "--quiet", "--name", "m", "--threads", "1"]
    assert main([str(tmp_path / "t.csv"), *flags, "--models", str(tmp_path / "usual")]) == 0
    clock = SimpleNamespace(perf_counter=lambda: time.perf_counter() / speed)
    monkeypatch.setattr("batchproof.service.invariance.check.time", clock)
    assert main([str(tmp_path / "t.csv"), *flags, "--models", str(tmp_path / "other")]) == 0
    usual, other = (
        {file.name: file.read_bytes() for file in (tmp_path / name / "m" / "1").iterdir()}
        for name in ("usual", "other")
    )
    assert usual == other
