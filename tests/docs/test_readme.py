"""The README and the pages under docs/ are executed: what a reader types works, and prints what the page shows.

A fenced `console` block holds commands after `$ ` and what they print. Commands run in order, one folder for each page, as
a reader's would; `make serve` and `batchproof serve` stay up until the next one. Port 8000 becomes a free one.
A line of output that is `…` stands for any lines, `*` for any text; JSON is compared as JSON, floats to 1e-4, ids and versions
by presence. Where the page trained the model itself, floats are compared to 10 %, for training rounds differently on
another processor.
"""

import contextlib
import fnmatch
import json
import math
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "examples" / "README.md"]
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
THIS_SUITE = "make test"
VARYING = {"engine", "request_id"}
VARYING_TRAINED = VARYING | {"sha256"}
TOLERANCE, TOLERANCE_TRAINED = 1e-4, 0.1
READY_WITHIN_S = 60.0


@dataclass(frozen=True)
class Command:
    """One `$ ` line and the text that the page shows below it."""

    line: str
    shown: str

    @property
    def serves(self) -> bool:
        """Whether the command stays up until it is stopped."""
        return self.line.startswith(("make serve", "batchproof serve"))

    @property
    def trains(self) -> bool:
        """Whether the command writes a model."""
        return self.line.startswith(("make train", "batchproof-train"))


def commands(page: Path) -> list[Command]:
    found = []
    for block in BLOCK.findall(page.read_text()):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = part.splitlines()
            end = next(i for i in range(1, len(lines) + 1) if is_whole("\n".join(lines[:i])))
            found.append(Command("\n".join(lines[:end]), "\n".join(lines[end:]).strip()))
    return [command for command in found if command.line != THIS_SUITE]


def is_whole(line: str) -> bool:
    """Whether a shell would run the line instead of asking for more: quotes closed, no backslash at its end."""
    try:
        shlex.split(line)
    except ValueError:
        return False
    return True


@dataclass
class Reader:
    """Someone who types a page's commands into a folder of their own."""

    folder: Path
    port: int
    trained: bool = False
    servers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        """Put this interpreter's commands first, and let `make` use them instead of new environments."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        variables = f"SERVE_ENV={self.folder / 'serving'} ENV={self.folder / 'all'} PORT={self.port}"
        return {**os.environ, "PATH": path, "MAKEFLAGS": variables, "MAKELEVEL": "0"}

    def follow(self, command: Command) -> None:
        """Run one command and compare what it prints."""
        line = command.line.replace("8000", str(self.port))
        if command.serves:
            self.serve(line)
            return
        run = subprocess.run(
            ["bash", "-c", line],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            env=self.environment(),
        )
        assert run.returncode == 0, f"$ {command.line}\n{run.stdout}"
        self.trained |= command.trains
        self.compare(command.shown, run.stdout.strip())

    def compare(self, shown: str, printed: str) -> None:
        """Hold what a command printed to what the page shows below it; a page may show nothing."""
        if shown.startswith("{"):
            tolerance = TOLERANCE_TRAINED if self.trained else TOLERANCE
            assert_same(json.loads(shown), json.loads(printed), tolerance)
        elif shown:
            pattern = "\n".join("*" if line == "…" else line.replace("[", "[[]") for line in shown.splitlines())
            assert fnmatch.fnmatchcase(printed, pattern), f"the page shows\n{shown}\nbut this was printed\n{printed}"

    def serve(self, line: str) -> None:
        """Stop the page's last server, start one in a process group of its own, wait until it is ready."""
        self.leave()
        server = subprocess.Popen(["bash", "-c", line], cwd=self.folder, env=self.environment(), start_new_session=True)
        self.servers.append(server)
        deadline_s = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline_s:
            assert server.poll() is None, f"{line} ended with status {server.returncode}"
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health/ready"):
                return
            time.sleep(0.05)
        raise AssertionError(f"{line}: not ready after {READY_WITHIN_S} s")

    def leave(self) -> None:
        """Stop every server, as Ctrl-C would."""
        for server in self.servers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)
        self.servers.clear()


def assert_same(shown: Any, printed: Any, tolerance: float, where: str = "") -> None:
    """Compare two JSON values: same keys, same order of elements, floats to the tolerance."""
    if isinstance(shown, dict):
        assert list(shown) == list(printed), where
        for key in shown.keys() - (VARYING if tolerance == TOLERANCE else VARYING_TRAINED):
            assert_same(shown[key], printed[key], tolerance, f"{where}.{key}")
    elif isinstance(shown, list):
        assert len(shown) == len(printed), where
        for index, (one, other) in enumerate(zip(shown, printed, strict=True)):
            assert_same(one, other, tolerance, f"{where}[{index}]")
    elif isinstance(shown, float):
        assert math.isclose(shown, printed, rel_tol=tolerance, abs_tol=tolerance), f"{where}: {shown} {printed}"
    else:
        assert shown == printed, where


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """Give a folder that looks like a clone, without one that is written to."""
    for name in ("batchproof", "service", "training", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("models", "constraints"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy2(ROOT / name, tmp_path / name)
    environment = tmp_path / "all" / "bin"
    environment.mkdir(parents=True)
    for name, module in (("python", ""), ("batchproof-train", "-m batchproof.training")):
        (environment / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {module} "$@"\n')
        (environment / name).chmod(0o755)
    (tmp_path / "all" / "ready").touch()
    (tmp_path / "serving").symlink_to(tmp_path / "all")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    reader = Reader(tmp_path, port)
    yield reader
    reader.leave()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_page(page: Path, reader: Reader) -> None:
    """Every command of a page succeeds, in order, and prints what the page shows."""
    for command in commands(page):
        reader.follow(command)


def test_readme_has_the_two_commands() -> None:
    """The README's first screen, 45 lines, holds both commands and one request with its answer."""
    first_screen = "\n".join((ROOT / "README.md").read_text().splitlines()[:45])

    assert "$ make serve\n" in first_screen
    assert "$ make test\n" in first_screen
    assert "$ curl " in first_screen
    assert '"predictions"' in first_screen
