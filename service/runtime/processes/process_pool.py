"""The service's side of the helper: processes that are kept for the next job, and replaced where they ended.

The helper starts with the first job. Where it was ended from outside, the next job starts another one.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Lock, Timer
from typing import Any, TypeVar

from batchproof.service.errors import ServiceError
from batchproof.service.runtime.processes.frames import MESSAGE, STOPS, PeerEndedError, exit_code

SILENT_S = 60.0  # without a byte from a process, however busy the machine is
EXIT_S = 5.0  # for the news how a process ended, and for the helper to end
MOST_IDLE = 2  # processes that wait for the next job
MOST_JOBS = 100  # that one process does
IDLE_S = 60.0  # that one waits for its next job, and holds the memory of its last
ENVIRONMENT = {  # a process that forks must have one thread
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "MALLOC_MMAP_THRESHOLD_": "33554432",  # and a job takes the memory of the last one: the kernel clears no pages anew
    "MALLOC_TRIM_THRESHOLD_": "67108864",
}
COMMAND = [sys.executable, "-m", "batchproof.service.runtime.processes.fork_server"]

Done = TypeVar("Done")


class ProcessEndedError(Exception):
    """A process ended within a job."""

    def __init__(self, code: int | None) -> None:
        """Hold its exit code, negative for a signal; None where nobody can say it."""
        super().__init__(f"exit code {code}")
        self.code = code


@dataclass
class Process:
    """A process that does one job at a time."""

    connection: socket.socket
    status: int  # the pipe that says how it ended
    jobs: int = 0  # that it has done to their end
    is_idle: bool = False
    idle_since_s: float = 0.0  # by time.monotonic
    known: set[Any] = field(default_factory=set)  # what it was told before, and remembers

    def finished(self) -> None:
        """Count a job that was done to its end: the process may have another one."""
        self.jobs += 1
        self.is_idle = True

    def close(self) -> None:
        """Give it up: the helper ends it."""
        self.connection.close()
        os.close(self.status)


class ProcessPool:
    """One helper with its processes; may be used by several threads."""

    def __init__(self, module: str, memory_bytes: int) -> None:
        """Let a process run `serve` of `module` with up to `memory_bytes`; nothing is started yet."""
        self.memory_bytes = memory_bytes
        self._module = module
        self._lock = Lock()
        self._helper: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._idle: list[Process] = []  # the one that waits longest first
        self._timer: Timer | None = None

    @property
    def helper_pid(self) -> int | None:
        """The process id of the helper; None where it was not started."""
        return None if self._helper is None else self._helper.pid

    def warm(self) -> None:
        """Start the helper where there is none, and do not wait for it; raises ServiceError (503)."""
        with self._lock:
            self._started()

    def close(self) -> None:
        """End the helper, and with it every process."""
        with self._lock:
            self._end()

    def take(self) -> Process:
        """Return a process that waits for a job, or a new one; raises ServiceError (503)."""
        with self._lock:
            if self._idle:
                process = self._idle.pop()
                process.is_idle = False
                return process
        return self.new()

    def new(self) -> Process:
        """Return a process that has had no job yet; raises ServiceError (503)."""
        process, theirs, end = _ends()
        try:
            self._hand_over([theirs.fileno(), end])
        except ServiceError:
            process.close()
            raise
        finally:
            theirs.close()
            os.close(end)
        return process

    def run(self, job: Callable[[Process], Done]) -> Done:
        """Return what `job` returns, which says `finished()` where the process may have another one.

        A process that ends, and not certainly by this job, is tried once more with another one. Raises ServiceError (503),
        ProcessEndedError, and what the job raises.
        """
        process = self.take()
        try:
            return job(process)
        except (PeerEndedError, ConnectionError) as error:
            code = ending(process)
            if process.jobs == 0 and code is not None:
                raise ProcessEndedError(code) from error
        finally:
            self.give_back(process)
        process = self.new()
        try:
            return job(process)
        except (PeerEndedError, ConnectionError) as error:
            raise ProcessEndedError(ending(process)) from error
        finally:
            self.give_back(process)

    def give_back(self, process: Process) -> None:
        """Keep a process that did its job to the end for the next one; the helper ends any other, whatever it is at."""
        with self._lock:
            if process.is_idle and len(self._idle) < MOST_IDLE and process.jobs < MOST_JOBS and self._control:
                process.idle_since_s = time.monotonic()
                self._idle.append(process)
                self._end_idle_later()
                return
        process.close()

    def _end_idle_later(self) -> None:
        """Have a timer end the process that waits longest, where there is one and no timer yet."""
        if self._idle and self._timer is None:
            timer = Timer(self._idle[0].idle_since_s + IDLE_S - time.monotonic(), self._end_idle)
            timer.daemon = True
            with contextlib.suppress(
                RuntimeError
            ):  # no more threads: it waits on, and the job that was done is answered
                timer.start()
                self._timer = timer

    def _end_idle(self) -> None:
        """End the processes that have waited for `IDLE_S`: their memory is the system's again. The helper stays."""
        with self._lock:
            self._timer = None
            while self._idle and self._idle[0].idle_since_s + IDLE_S <= time.monotonic():
                self._idle.pop(0).close()
            self._end_idle_later()

    def _hand_over(self, descriptors: Sequence[int]) -> None:
        with self._lock:
            for _ in range(2):
                try:
                    socket.send_fds(self._started(), [MESSAGE], descriptors)
                except OSError:  # it was ended since
                    self._end()
                else:
                    return
        raise lost()

    def _started(self) -> socket.socket:
        """Return the socket of the helper, which runs."""
        if self._helper is not None and self._helper.poll() is not None:
            self._end()
        if self._control is None:
            try:
                control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            except OSError as error:
                raise lost() from error
            control.settimeout(EXIT_S)
            try:
                with theirs:
                    self._helper = subprocess.Popen(  # noqa: S603 - our own module
                        [*COMMAND, self._module, str(self.memory_bytes)],
                        stdin=theirs.fileno(),
                        stdout=subprocess.DEVNULL,
                        process_group=0,  # an interrupt at the terminal is for the service, which ends it
                        env={**os.environ, **ENVIRONMENT},
                    )
            except OSError as error:
                control.close()
                raise lost() from error
            self._control = control
        return self._control

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._idle:
            self._idle.pop().close()
        if self._control is not None:
            self._control.close()
        if self._helper is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._helper.wait(EXIT_S)
            self._helper.kill()
            self._helper.wait()
        self._control = self._helper = None


def _ends() -> tuple[Process, socket.socket, int]:
    """Return a new process as the service holds it, and its own ends of its socket and its pipe; raises ServiceError (503)."""
    try:
        connection, theirs = socket.socketpair()
        try:
            status, end = os.pipe()
        except OSError:
            connection.close()
            theirs.close()
            raise
    except OSError as error:  # the limit of descriptors
        raise lost() from error
    connection.settimeout(SILENT_S)  # for a process that reads nothing
    return Process(connection, status), theirs, end


def ending(process: Process) -> int | None:
    """Return the exit code of a process that has ended, negative for a signal; None where it says nothing of the job."""
    code = exit_code(process.status, EXIT_S)
    return None if code is not None and -code in STOPS else code


def described(code: int) -> str:
    """Return how a process ended, as a sentence goes on behind `ended`."""
    return f"with exit code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"


def lost() -> ServiceError:
    """Return 503: there is no process for this request."""
    return ServiceError(
        503, "reader_lost", "The process that reads such bodies could not be started or was ended; try again.",
        retry_after_s=1,
    )  # fmt: skip
