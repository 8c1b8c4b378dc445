"""The one thing that a test may do without: a program. CI demands them by TEST_PROGRAMS=required.

A machine without Chromium, Node, a JDK, HAProxy, nginx, Envoy or promtool skips the tests that drive it, with one line in the summary. No other test may
be skipped: tests/test_boundaries.py holds that.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu")
OWN_PROGRAMS = Path(sys.executable).parent  # of the environment that runs the tests
SYSTEM_PATH = f"{OWN_PROGRAMS}:{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"


@dataclass(frozen=True)
class Browser:
    """Chromium with a profile of its own."""

    command: str
    profile: Path

    def dump_dom(self, url: str, *flags: str) -> str:
        """Return the document as it is after its scripts ran."""
        command = [self.command, *FLAGS, f"--user-data-dir={self.profile}", *flags, "--dump-dom", url]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def command_of(names: Sequence[str] = BROWSERS, package: str | None = None) -> str:
    """Return the path of the first program that is there. Without one the test is skipped, or fails where it is required.

    `package` holds the program, if its name is another one.
    """
    for name in names:
        if path := shutil.which(name, path=SYSTEM_PATH):
            return path
    advice = f"no {names[0]} here: `make programs` as root installs it, or install your system's package {package or names[0]}"
    if os.environ.get("TEST_PROGRAMS") == "required":
        pytest.fail(advice)
    pytest.skip(advice)
