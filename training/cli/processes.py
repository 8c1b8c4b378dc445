"""Start the processes of a run on this machine, and end them together. Loads no torch."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

from batchproof.service.runtime.child_process import die_with_parent
from batchproof.training.distributed.place import STORE

GRACE_S = 10.0  # for the others to end by themselves after one failed
POLL_S = 0.05
FAILED = 1


def launch(words: Sequence[str], processes: int) -> int:
    """Run the training command as so many processes and return the exit code of the run.

    SIGINT and SIGTERM are passed on to all of them. They meet over a file and over the loopback interface, which no other machine can reach.
    """
    with TemporaryDirectory(prefix="batchproof-") as folder:
        store = str(Path(folder) / "store")
        children = [_start(words, rank, processes, store) for rank in range(processes)]
        with _passing_on(children):
            try:
                return _code(_wait(children))
            finally:
                for child in children:
                    child.kill()
                    child.wait()


def _start(words: Sequence[str], rank: int, size: int, store: str) -> subprocess.Popen[bytes]:
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, STORE: store, "OMP_NUM_THREADS": 1}
    environment = {"GLOO_SOCKET_IFNAME": "lo", **os.environ, **{name: str(value) for name, value in own.items()}}
    return subprocess.Popen(
        [sys.executable, "-m", "batchproof.training", *words],
        env=environment,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - this process has one thread
        process_group=0,  # so that Ctrl-C reaches them once, through this process
    )


@contextmanager
def _passing_on(children: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    def pass_on(number: int, _: FrameType | None) -> None:
        for child in children:
            child.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(children: Sequence[subprocess.Popen[bytes]]) -> list[int]:
    """Wait for all to end, and end those that outlive a failed one; returns their exit codes."""
    failed_s: float | None = None
    while any(child.poll() is None for child in children):
        time.sleep(POLL_S)
        if failed_s is None and any(child.returncode for child in children):
            failed_s = time.monotonic()
        if failed_s is not None and time.monotonic() - failed_s > GRACE_S:
            for child in children:
                child.kill()
    return [child.returncode for child in children]


def _code(codes: Sequence[int]) -> int:
    """Return the exit code of the run: that of the first process, which talks, unless a signal ended it."""
    if codes[0] >= 0:
        return codes[0] or (max(map(abs, codes)) and FAILED)
    print(
        f"batchproof-train: process 0 was ended by {signal.Signals(-codes[0]).name}; no bundle was written.",
        file=sys.stderr,
    )
    return FAILED
