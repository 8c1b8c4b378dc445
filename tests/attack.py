"""schemathesis, let loose on what a live server says of itself in its OpenAPI document."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.live import Live

LIMIT_S = 300


def attack(server: Live, paths: str, folder: Path, *options: str, environment: Mapping[str, str] | None = None) -> None:
    """Send what is generated for routes that match the expression `paths`; fails with what schemathesis found.

    It runs in `folder`, where it also looks for hooks.
    """
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json", "--no-color"]
    # A generated deadline of a millisecond would rightly be met with 504: the deadline is fixed here.
    fixed = ["--header", "X-Request-Timeout-S: 10", "--seed", "1", "--max-examples", "25"]
    scope = ["--phases", "examples,coverage,fuzzing", "--include-path-regex", paths]
    ended = subprocess.run(
        [*command, *fixed, *scope, *options],
        cwd=folder,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
