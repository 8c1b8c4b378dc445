"""A service whose one model is swapped by its pin."""

import json
import os
import queue
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from bench.reload.callers import NAME
from tests.bundles import NUMBERS, make_bundle, reseal
from tests.live import Live, free_port, live


class Service:
    """A service whose one model is swapped by its pin."""

    def __init__(self, server: Live, file: Path, name: str = NAME) -> None:
        self.server, self.name, self._file = server, name, file
        self.version = 1  # that is served
        self.events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def swap(self) -> float:
        """Serve the other version and return the seconds until all workers do; raises where it is refused."""
        version = self.version = 3 - self.version
        self._file.write_text(f"pins = {{ {self.name} = {version} }}\n")
        began_s = time.monotonic()
        os.kill(self.server.process.pid, signal.SIGHUP)
        while (event := self.events.get(timeout=60))["event"] != "reloaded":
            if event["event"] == "reload_refused":
                raise RuntimeError(event["reason"])
        return time.monotonic() - began_s

    def memory_bytes(self) -> int:
        """Return what supervisor and workers hold privately."""
        pid = self.server.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return sum(_private_bytes(int(one)) for one in [pid, *children])

    def _read(self) -> None:
        assert self.server.process.stderr is not None
        with suppress(ValueError):  # the pipe is closed at the end
            for line in self.server.process.stderr:
                if line.startswith("{"):
                    self.events.put(json.loads(line))


def _private_bytes(pid: int) -> int:
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_"))
    return 0


@contextmanager
def served(folder: Path, workers: int) -> Iterator[tuple[Service, int]]:
    """Serve two versions of one small model, of which a pin chooses one; yields the service and its port of gRPC."""
    for version in (1, 2):
        make_bundle(folder / "models", NAME, version, seed=version, inputs=NUMBERS)
    port = free_port()
    with _serving(folder, NAME, "--workers", str(workers), "--grpc-port", str(port)) as service:
        yield service, port


@contextmanager
def served_copies(folder: Path, bundle: Path, workers: int) -> Iterator[Service]:
    """Serve a bundle in two copies, as its versions 1 and 2, of which a pin chooses one."""
    name = str(json.loads((bundle / "bundle.json").read_bytes())["name"])
    for version in (1, 2):
        copy = folder / "models" / name / str(version)
        shutil.copytree(bundle, copy, ignore=shutil.ignore_patterns("model.sig"))
        reseal(copy, partial(_set_version, version))
    with _serving(folder, name, "--workers", str(workers)) as service:
        yield service


@contextmanager
def _serving(folder: Path, name: str, *flags: str) -> Iterator[Service]:
    file = folder / "settings.toml"
    file.write_text(f"pins = {{ {name} = 1 }}\n")
    with live(folder / "models", "--settings", str(file), *flags) as server:
        yield Service(server, file, name)


def _set_version(version: int, content: dict[str, Any]) -> None:
    content["version"] = version
