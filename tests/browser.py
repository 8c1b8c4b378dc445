"""The one thing that a test may do without: a browser. CI demands it by BROWSER_TESTS=required.

A machine without Chromium skips the tests that drive it, with one line in the summary. No other test may be skipped:
tests/test_boundaries.py holds that.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
ADVICE = "no Chromium here: `make browser` as root installs it, or install your system's package chromium"
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu")


@dataclass(frozen=True)
class Browser:
    """Chromium with a profile of its own."""

    command: str
    profile: Path

    def dump_dom(self, url: str, *flags: str) -> str:
        """Return the document as it is after its scripts ran."""
        command = [self.command, *FLAGS, f"--user-data-dir={self.profile}", *flags, "--dump-dom", url]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def command_of(names: Sequence[str] = NAMES) -> str:
    """Return the browser's path. Without one the test is skipped, or fails where browser tests are required."""
    for name in names:
        if path := shutil.which(name):
            return path
    if os.environ.get("BROWSER_TESTS") == "required":
        pytest.fail(ADVICE)
    pytest.skip(ADVICE)
