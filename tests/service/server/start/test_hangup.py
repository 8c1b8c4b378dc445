"""SIGHUP that comes while the service starts is not lost: what a process has read by then, it reads again once it serves."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.http_client import ask
from tests.live import Live, start
from tests.service.server.serving.test_authorization import write_keys
from tests.service.server.test_reload import BODY, put

# Each process that serves has read models and keys by then; the supervisor has read the models. They go on at once.
SERVE = """
import os, pathlib, sys, time
from batchproof.service.server.serving import app
folder, stage = pathlib.Path(sys.argv.pop(1)), sys.argv.pop(1)

def held(read):
    def hold(*arguments):
        found = read(*arguments)
        (folder / f"read-{os.getpid()}").touch()
        while not (folder / "go").exists():
            time.sleep(.01)
        return found
    return hold

setattr(app, stage, held(getattr(app, stage)))
from batchproof.service.__main__ import main
sys.exit(main())
"""


@contextmanager
def hung_up_in_the_start(folder: Path, stage: str, workers: int, change: Callable[[], None]) -> Iterator[Live]:
    """Start the service; once it has read files in that stage, change them, send SIGHUP, and let it go on."""
    command = [sys.executable, "-c", SERVE, str(folder), stage, "serve", "--models", str(folder / "models")]
    command += ["--port", "0", "--workers", str(workers), "--keys-file", str(folder / "keys.toml")]
    is_of_workers = stage == "load" and workers > 1

    def hang_up() -> None:
        deadline_s = time.monotonic() + 60
        while len(read := list(folder.glob("read-*"))) < (workers if is_of_workers else 1):
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        change()
        process = int(read[0].name.split("-")[1])
        os.kill(parent(process) if is_of_workers else process, signal.SIGHUP)
        (folder / "go").touch()

    thread = threading.Thread(target=hang_up)
    thread.start()
    try:
        with start(command, {}) as server:
            yield server
    finally:
        (folder / "go").touch()
        thread.join()


def parent(process: int) -> int:
    """Return the process that started `process`: the supervisor of a worker."""
    return int(Path(f"/proc/{process}/stat").read_text().rsplit(") ", 1)[1].split()[1])


@pytest.mark.parametrize(("stage", "workers"), [("load", 1), ("load", 2), ("take_snapshot", 2)])
def test_a_hangup_during_the_start_counts(tmp_path: Path, stage: str, workers: int) -> None:
    """Every worker serves the version, and lets in the key, that stood there when SIGHUP came."""
    path = tmp_path / "keys.toml"
    put(tmp_path / "models", 1)
    old = write_keys(path, {"ada": {"scopes": ["predict"]}})["ada"]
    was, new = path.stat(), ""

    def change() -> None:
        nonlocal new
        put(tmp_path / "models", 2)
        new = write_keys(path, {"ada": {"scopes": ["predict"]}})["ada"]
        os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))  # a look at the file each second sees no change

    with hung_up_in_the_start(tmp_path, stage, workers, change) as server:

        def found(key: str) -> set[int]:
            """Return the versions that answer this key on connections of their own, or the refusals' status."""
            answers = [ask(server, "POST", "/predict", BODY, X_API_Key=key) for _ in range(6)]
            return {one.content["model"]["version"] if one.status == 200 else one.status for one in answers}

        deadline_s = time.monotonic() + 20
        while (found(new), found(old)) != ({2}, {401}) and time.monotonic() < deadline_s:
            time.sleep(0.05)
        assert (found(new), found(old)) == ({2}, {401})
