"""One server under measurement: start it, wait for its first right answer, read its memory and CPU, stop it."""

import contextlib
import math
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.bodies import Request, WrongAnswer

MARK = "BENCH_MARK"  # an environment variable that every process of one start inherits
HOST = "127.0.0.1"
POLL_S = 0.005
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class NotReady(Exception):  # noqa: N818 — says what happened
    """The server ended, or gave no right answer in time; the message holds the end of its log."""


@dataclass(frozen=True)
class Launch:
    """How a server is started: argv, environment and folder; `{port}` in the first two stands for the port."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = Path()


@dataclass(frozen=True)
class Attached:
    """A server that somebody else started, maybe on another machine: it is only asked."""

    host: str
    port: int


@dataclass(frozen=True)
class Usage:
    """What a process tree holds and has used. PSS counts a shared page once, RSS once a process."""

    processes: int
    cpu_s: float
    rss_mb: float
    pss_mb: float


@dataclass(frozen=True)
class Running:
    """A started server that has answered."""

    port: int
    first_answer_s: float  # from exec to the first right prediction
    pid: int
    mark: str
    host: str = HOST

    @property
    def is_ours(self) -> bool:
        """Return whether its processes are known here, so that memory and processor time can be read."""
        return bool(self.mark)

    def usage(self) -> Usage:
        """Read /proc for every process of this start."""
        return usage(members(self.mark))


@contextlib.contextmanager
def started(launch: Launch | Attached, first: Request, log: Path, limit_s: float = 60) -> Iterator[Running]:
    """Start, wait until `first` is answered rightly, and stop at the end; raises NotReady.

    A server that is attached is asked once, and neither started nor stopped.
    """
    if isinstance(launch, Attached):
        try:
            first.check(launch.host, launch.port)
        except (OSError, ValueError, WrongAnswer) as error:
            raise NotReady(f"the server at {launch.host}:{launch.port} gives no right answer: {error!r}") from error
        yield Running(launch.port, math.nan, 0, "", launch.host)
        return
    port, mark = free_port(), uuid.uuid4().hex
    command = [part.replace("{port}", str(port)) for part in launch.command]
    environment = {name: value.replace("{port}", str(port)) for name, value in launch.environment.items()}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        begun = time.perf_counter()
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment, MARK: mark},
            cwd=launch.folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait(process, first, port, begun + limit_s, log)
            yield Running(port, time.perf_counter() - begun, process.pid, mark)
        finally:
            stop(process, mark)


def _wait(process: subprocess.Popen[bytes], first: Request, port: int, until: float, log: Path) -> None:
    last: Exception | None = None
    while time.perf_counter() < until:
        if process.poll() is not None:
            raise NotReady(f"the server ended with {process.returncode}: {_tail(log)}")
        try:
            first.check(HOST, port)
        except (OSError, ValueError, WrongAnswer) as error:
            last = error
            time.sleep(POLL_S)
        else:
            return
    raise NotReady(f"no right answer in time; last {last!r}; log: {_tail(log)}")


def stop(process: subprocess.Popen[bytes], mark: str, limit_s: float = 15) -> None:
    """Ask the process to stop, then kill what carries this start's mark and is still there."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    until = time.monotonic() + limit_s
    while time.monotonic() < until and (process.poll() is None or members(mark)):
        time.sleep(0.02)
    for pid in members(mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait(5)


def members(mark: str) -> list[int]:
    """Return the processes that carry `mark`, also those that left their parent's session."""
    wanted, found = f"{MARK}={mark}".encode(), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def usage(pids: list[int]) -> Usage:
    """Add up CPU seconds and memory (MB of 1e6 bytes) over `pids`; a process that has ended counts nothing."""
    ticks, rss_kib, pss_kib = 0, 0, 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            memory = dict(line.split()[:2] for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
            ticks += int(fields[11]) + int(fields[12])
            rss_kib += int(memory["Rss:"])
            pss_kib += int(memory["Pss:"])
    return Usage(len(pids), ticks / TICKS_PER_S, rss_kib * 1.024e-3, pss_kib * 1.024e-3)


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


def _tail(log: Path) -> str:
    return log.read_bytes()[-1500:].decode(errors="replace")
