"""docs/limits.md: each limit names a test that exists, a setting that exists, and a refusal that the docs know."""

import re
from pathlib import Path

import pytest

from batchproof.service.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| what")
]


def test_page_has_limits() -> None:
    """The tables of the page are read: each limit has five cells."""
    assert len(ROWS) > 15
    assert [row for row in ROWS if len(row) != 5] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_limit_is_held_by_a_test(row: list[str]) -> None:
    """The test that a limit names is there."""
    held_by = re.findall(r"`([^`]+)::(\w+)`", row[-1])
    assert held_by
    for path, name in held_by:
        assert re.search(rf"^(async )?def {name}\(", (ROOT / "tests" / path).read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_limit_has_its_setting(row: list[str]) -> None:
    """A setting that a limit names is one of the service's, or an option of a command."""
    named = re.findall(r"`([^`]+)`", row[2])
    assert row[2] == "fixed" or named
    assert [name for name in named if not name.startswith("--") and name not in Settings.model_fields] == []
