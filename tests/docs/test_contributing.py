"""What a contributor reads names files, commands and commits that are there."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import batchproof

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("CONTRIBUTING.md", "DESIGN.md", "SECURITY.md", ".github/pull_request_template.md")
PATH = re.compile(r"`((?:\.ci|service|training|tests|docs|constraints|bench)/[\w./]*)`")


def makefile_commands() -> set[str]:
    """Return what `make` takes."""
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_are_there(page: str) -> None:
    """Each path that a contributor's page names exists."""
    paths = PATH.findall((ROOT / page).read_text())

    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", [*PAGES, "README.md"])
def test_commands_that_are_named_are_there(page: str) -> None:
    """Each `make` command that a page names is in the Makefile."""
    named = set(re.findall(r"(?:`|^\$ |^)make ([a-z-]+)\b", (ROOT / page).read_text(), re.MULTILINE))

    assert named <= makefile_commands()


def test_the_hooks_are_the_tools_of_make_check() -> None:
    """Pre-commit runs every tool that `make check` runs."""
    recipe = (ROOT / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    tools = set(re.findall(r"\$\(ENV\)/bin/(\S+)", recipe))
    hooks = re.findall(r"entry: (\S+)", (ROOT / ".pre-commit-config.yaml").read_text())

    assert tools == set(hooks)


def test_the_citation_has_the_version() -> None:
    """CITATION.cff names the version of the package."""
    assert f"\nversion: {batchproof.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_commits_to_pass_over_are_in_the_history() -> None:
    """.git-blame-ignore-revs holds whole hashes, and where there is a history, commits of those titles."""
    text = (ROOT / ".git-blame-ignore-revs").read_text()
    pairs = re.findall(r"^# (.+)\n([0-9a-f]{40})$", text, re.MULTILINE)
    assert len(pairs) == 5
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        return
    for title, commit in pairs:
        shown = subprocess.run(
            ["git", "log", "-1", "--format=%s", commit], cwd=ROOT, check=False, capture_output=True, text=True
        )
        assert shown.stdout.strip() in (title, ""), "a shallow clone knows no old commits"
