"""Run work that may never end, or may end its process, in a child process with bounds of memory and time.

A process of one thread forks: a few milliseconds, and everything it imported is there. One with threads must not (their
locks would be held for ever in the child), so it starts a new interpreter, which imports anew. What comes back is text:
nothing that a broken child sends is unpickled. The child ends with its parent, and by an alarm of its own.
"""

import contextlib
import ctypes
import faulthandler
import io
import json
import os
import pickle
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeAlias

from batchproof.service.errors import printable
from batchproof.service.runtime.system import can_confine

Work: TypeAlias = Callable[..., str]

POLL_MS = 10
OUT_OF_MEMORY = 77  # exit code
PR_SET_PDEATHSIG = 1  # of prctl(2)
RESULT_BYTES = 8 << 20
LINE_CHARACTERS = 2000


@dataclass(frozen=True)
class Bounds:
    """What a child may take."""

    memory_bytes: int = 2 << 30  # beyond what this process has
    seconds: float = 20.0
    is_strict: bool = True  # whether the system counts memory too; a CUDA driver maps more than it takes


class ChildError(Exception):
    """A child without a result. The text completes a sentence that begins with what it did."""

    def __init__(self, kind: Literal["memory", "time", "crash"], message: str) -> None:
        """Say what happened, in one word and as a clause."""
        super().__init__(message)
        self.kind = kind


def run(
    work: Work, *arguments: Any, bounds: Bounds, spawn: bool | None = None, go_on: Callable[[], object] = lambda: None
) -> str:
    """Return what `work(*arguments)` returns in a child process; raises ChildError where that gave no result.

    `go_on` is asked while waiting; what it raises ends the child.
    `spawn`: whether to start a new interpreter; None: where this process has threads. Then `work` must be a function of
    a module, and the arguments are pickled. Where a child cannot be held to bounds, there is no result.
    """
    if not can_confine():
        raise ChildError(
            "crash", "cannot be done on this system: only Linux holds a process to limits of memory and time"
        )
    is_spawned = _threads() > 1 if spawn is None else spawn
    started = _spawned(work, arguments, bounds) if is_spawned else _forked(work, arguments, bounds)
    with started as (pid, result):
        text, problem = _watch(pid, result, bounds, go_on)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if problem is not None:
        raise problem
    if status == OUT_OF_MEMORY:
        raise _too_much_memory(bounds)
    if status == -signal.SIGALRM:  # its own alarm: this process was stopped, or too busy to look
        raise _too_slow(bounds)
    if status < 0:
        raise ChildError("crash", f"ended the process ({signal.Signals(-status).name})")
    if status:
        raise ChildError("crash", f"ended the process with exit code {status}")
    return text.decode()


def command(work: Callable[..., int], *arguments: Any, bounds: Bounds, name: str, advice: Mapping[str, str]) -> int:
    """Return the exit status of a command's work, done in a child process; print here what it printed there.

    Where the child has no result, one sentence says so and the status is 2; `advice` {kind of ChildError: how to allow
    more} completes it. What is printed to
    standard error is plain text: a file cannot send control characters to a terminal through it. On a system that holds no
    process to bounds, the work is done here, without them.
    """
    if not can_confine():
        return work(*arguments)
    try:
        status, output, errors = json.loads(run(_printing, work, *arguments, bounds=bounds))
    except ChildError as error:
        status, output, errors = 2, "", f"{name}: it {error}{advice.get(error.kind, '')}\n"
    sys.stderr.write("".join(printable(line)[:LINE_CHARACTERS] + "\n" for line in errors.splitlines()))
    sys.stdout.write(output)
    return int(status)


def _printing(work: Callable[..., int], *arguments: Any) -> str:
    """Return what work does as JSON: [exit status, standard output, standard error]."""
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        status = work(*arguments)
    return json.dumps([status, output.getvalue(), errors.getvalue()])


@contextmanager
def _forked(work: Work, arguments: tuple[Any, ...], bounds: Bounds) -> Iterator[tuple[int, int]]:
    try:
        result, sink = os.pipe()
    except OSError as error:
        raise _not_begun(error) from error
    sys.stdout.flush()  # or the child would write what is left there too
    sys.stderr.flush()
    try:
        pid = os.fork()
    except OSError as error:
        os.close(result)
        os.close(sink)
        raise _not_begun(error) from error
    if not pid:
        os.close(result)
        _work(work, arguments, bounds, sink)
    os.close(sink)
    with _ending(pid), contextlib.closing(os.fdopen(result, "rb", buffering=0)):
        yield pid, result


@contextmanager
def _spawned(work: Work, arguments: tuple[Any, ...], bounds: Bounds) -> Iterator[tuple[int, int]]:
    command = [sys.executable, "-m", "batchproof.service.runtime.child_process"]
    try:
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603 - our own module
    except OSError as error:
        raise _not_begun(error) from error
    assert child.stdin is not None, "it is a pipe"
    assert child.stdout is not None, "it is a pipe"
    child.returncode = 0  # it is waited for here, not by subprocess
    with _ending(child.pid), child.stdout as result:
        with contextlib.suppress(BrokenPipeError), child.stdin as task:
            pickle.dump((work, arguments, bounds), task)
        yield child.pid, result.fileno()


def _not_begun(error: OSError) -> ChildError:
    return ChildError("crash", f"could not begin: no process can be started ({error.strerror})")


@contextmanager
def _ending(pid: int) -> Iterator[None]:
    """Kill the child if the block is left by an exception, such as an interrupt."""
    try:
        yield
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _watch(pid: int, result: int, bounds: Bounds, go_on: Callable[[], object]) -> tuple[bytes, ChildError | None]:
    """Collect what the child sends until it ends; kill it where it goes beyond its bounds."""
    allowed_bytes = _resident_bytes(os.getpid()) + bounds.memory_bytes
    end_s = time.monotonic() + bounds.seconds
    poller = select.poll()
    poller.register(result)
    text = b""
    while True:
        if poller.poll(POLL_MS):
            chunk = os.read(result, 1 << 20)
            text += chunk
            if not chunk:
                return text, None
        go_on()
        problem = None
        if _resident_bytes(pid) > allowed_bytes:
            problem = _too_much_memory(bounds)
        elif time.monotonic() > end_s:
            problem = _too_slow(bounds)
        elif len(text) > RESULT_BYTES:
            problem = ChildError("crash", "sent a result that is too long")
        if problem is not None:
            os.kill(pid, signal.SIGKILL)
            return b"", problem


def _too_slow(bounds: Bounds) -> ChildError:
    return ChildError("time", f"took more than {bounds.seconds:g} s")


def _too_much_memory(bounds: Bounds) -> ChildError:
    return ChildError("memory", f"took more than {bounds.memory_bytes >> 20} MiB of memory")


def _work(work: Work, arguments: tuple[Any, ...], bounds: Bounds, sink: int) -> NoReturn:
    """Do the work in this process, which is the child's, and end it."""
    status = 1
    try:
        _confine(bounds)
        text = work(*arguments).encode()
        while text:
            text = text[os.write(sink, text) :]
        status = 0
    except MemoryError:
        status = OUT_OF_MEMORY
    finally:
        if status == 1:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def die_with_parent() -> None:
    """Let the system kill this process when the thread that started it ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _confine(bounds: Bounds) -> None:
    """Bind this process by its bounds, and its life to the parent's."""
    die_with_parent()
    faulthandler.disable()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    import resource  # Windows has none

    signal.alarm(int(bounds.seconds) + 2)  # the parent may be stopped, or too busy to look
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if bounds.is_strict:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        allowed = private_bytes() + bounds.memory_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (allowed if hard < 0 else min(allowed, hard), hard))
    with contextlib.suppress(OSError):  # where memory ends for all, the child goes first
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))  # noqa: PTH208 - only their number
    except OSError as error:  # the limit of descriptors
        raise _not_begun(error) from error


def _resident_bytes(pid: int) -> int:
    """Return the memory that a process has in use; 0 where it has ended."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    except OSError:
        return 0
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if len(pages) > 1 else 0


def private_bytes() -> int:
    """Return the writable memory that this process has of its own, used or not."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmData"))


def _main() -> NoReturn:
    """Do the work that the parent wrote to standard input; what it prints goes to standard error."""
    work, arguments, bounds = pickle.load(sys.stdin.buffer)  # noqa: S301 - the parent, who started this process, wrote it
    sink = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    _work(work, arguments, bounds, sink)


if __name__ == "__main__":
    _main()
