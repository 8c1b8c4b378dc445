"""No worker outlives its supervisor, however that ends and whatever the worker is doing.

While a worker loads its models it has one thread, so that it may fork, and no caller: the kernel kills it with its
supervisor. Later a thread waits for the end of a pipe that only the supervisor can write to. It asks the worker to stop as
a signal would, and ends the process where that has not happened in time, because its event loop hangs.
"""

import ctypes
import os
import signal
import threading
import time

PR_SET_PDEATHSIG = 1  # of prctl(2): the signal that a process gets when its parent ends


class Lifeline:
    """A pipe whose end says that the process that made it is gone."""

    def __init__(self) -> None:
        """Open the pipe; the maker is the supervisor."""
        self._supervisor = os.getpid()
        self._read_end, self._write_end = os.pipe()

    def adopt(self) -> None:
        """Die with the supervisor from now on; called in a worker, after the fork."""
        os.close(self._write_end)
        _die_with_parent(signal.SIGKILL)
        if os.getppid() != self._supervisor:  # it ended before the kernel was asked
            os._exit(1)

    def watch(self, grace_s: float) -> None:
        """End gracefully with the supervisor from now on, within `grace_s`; called once callers may come."""
        threading.Thread(target=self._wait, args=(grace_s,), name="lifeline", daemon=True).start()
        _die_with_parent(0)

    def _wait(self, grace_s: float) -> None:
        while os.read(self._read_end, 1):
            continue
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace_s)
        os._exit(1)


def _die_with_parent(number: int) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(number))
