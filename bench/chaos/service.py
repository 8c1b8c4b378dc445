"""The service under test: its workers, its log, and what can be done to it."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue

from bench.chaos.findings import Deaths, Findings
from bench.chaos.questions import write_models
from tests.live import Live, free_port, live

EXPECTED_ERRORS = {"worker_hung", "worker_not_started"}  # of a service whose workers are stopped and killed
REFUSALS = {"deadline_exceeded", "draining"}  # with 503 or 504: a caller counts them as refused
RELOAD_S = 60.0


class Service:
    """A running service whose models are swapped by their pins."""

    def __init__(self, server: Live, settings: Path, grpc_port: int, findings: Findings) -> None:
        """Read the log of `server` from now on."""
        self.address = (server.host, server.port)
        self.grpc_port = grpc_port
        self.pid = server.process.pid
        self.deaths = Deaths()
        self.version = 1  # that is pinned
        self._server, self._settings, self._findings = server, settings, findings
        self._stopped: set[int] = set()  # workers that were stopped or killed here
        self._reloads: SimpleQueue[str] = SimpleQueue()
        threading.Thread(target=self._read_log, daemon=True).start()

    def workers(self) -> list[int]:
        """Return the processes that serve."""
        return _children(self.pid)

    def members(self) -> list[int]:
        """Return all processes of the service."""
        found = [self.pid]
        for pid in found:
            found += _children(pid)
        return found

    def swap(self) -> None:
        """Ask for the other version of each model."""
        self.version = 3 - self.version
        pins = f"pins = {{ numbers = {self.version}, flowers = {self.version} }}\n"
        self._settings.with_suffix(".new").write_text(pins)
        self._settings.with_suffix(".new").rename(self._settings)
        self.hang_up()

    def swap_and_wait(self) -> None:
        """Serve the other version of each model; raises RuntimeError where that is refused, queue.Empty if it never ends."""
        self.swap()
        if (end := self._reloads.get(timeout=RELOAD_S)) != "reloaded":
            raise RuntimeError(end)

    def wait_for_reload(self, timeout_s: float) -> None:
        """Wait until a reload ended, well or not, or the time is over."""
        with suppress(Empty):
            self._reloads.get(timeout=timeout_s)

    def hang_up(self) -> None:
        """Have settings and models read again."""
        os.kill(self.pid, signal.SIGHUP)

    def kill(self, pid: int) -> None:
        """Kill a worker; its connections are noted while it cannot take others."""
        with suppress(ProcessLookupError):
            self._stop(pid)
            self.deaths.add(self.callers_of(pid))
            os.kill(pid, signal.SIGKILL)

    def stop(self, pid: int, seconds: float) -> None:
        """Stop a worker for so long; the service may kill and replace it meanwhile."""
        with suppress(ProcessLookupError):
            self._stop(pid)
            held = self.callers_of(pid)
            end_s = time.monotonic() + seconds
            while time.monotonic() < end_s and pid in self.workers():
                time.sleep(0.02)
            if pid in self.workers():
                os.kill(pid, signal.SIGCONT)
            else:
                self.deaths.add(held)  # callers that see it before wait for this

    def _stop(self, pid: int) -> None:
        """Stop a worker, and wait until it stands: it takes no connection from then on."""
        self._stopped.add(pid)
        os.kill(pid, signal.SIGSTOP)
        while _state(pid) not in ("T", "Z", ""):
            time.sleep(0.002)

    def callers_of(self, pid: int) -> set[int]:
        """Return the ports of the callers whose connections this process holds."""
        held = set()
        with suppress(OSError):  # it has ended meanwhile
            for entry in list(Path(f"/proc/{pid}/fd").iterdir()):
                with suppress(OSError):
                    held.add(str(entry.readlink()))
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
        fields = [line.split() for line in lines]
        return {int(field[2].rpartition(":")[2], 16) for field in fields if f"socket:[{field[9]}]" in held}

    def _read_log(self) -> None:
        assert self._server.process.stderr is not None
        with suppress(ValueError):  # the pipe is closed at the end
            for line in self._server.process.stderr:
                self._look_at(line.strip())

    def _look_at(self, line: str) -> None:
        try:
            found = json.loads(line)
            event, level = found["event"], found["level"]
        except (ValueError, TypeError, KeyError):
            self._findings.add("unhandled", line[:400])
            return
        if event == "request_failed" and found["code"] in REFUSALS:
            return
        if "trace" in found or (level == "error" and event not in EXPECTED_ERRORS):
            self._findings.add("unhandled", f"{line[:200]} ... {line[-600:]}")
        if event == "worker_hung" and found["pid"] not in self._stopped:
            self.deaths.add_starved()
            self._findings.count(self._findings.faults, "worker without processor time")
        if event in ("reloaded", "reload_refused"):
            self._reloads.put(event)


def _state(pid: int) -> str:
    """Return the state of a process as the kernel names it: R, S, T ..., or nothing where there is none."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


@contextmanager
def served(folder: Path, workers: int, findings: Findings) -> Iterator[Service]:
    """Serve two models of two versions each, of which pins choose."""
    write_models(folder / "models")
    settings, port = folder / "settings.toml", free_port()
    settings.write_text("pins = { numbers = 1, flowers = 1 }\n")
    flags = ("--settings", str(settings), "--workers", str(workers), "--grpc-port", str(port))
    with live(folder / "models", *flags) as server:
        yield Service(server, settings, port, findings)
