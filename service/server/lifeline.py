"""No worker outlives its supervisor, however that ends and whatever the worker is doing.

The supervisor holds the one writing end of a pipe. A thread of each worker waits for the pipe's end: it asks the worker to
stop as a signal would, and ends the process where that has not happened in time, because its event loop hangs.
"""

import os
import signal
import threading
import time


class Lifeline:
    """A pipe whose end says that the process that made it is gone."""

    def __init__(self) -> None:
        """Open the pipe; the maker is the supervisor."""
        self._read_end, self._write_end = os.pipe()

    def watch(self, grace_s: float) -> None:
        """Follow the supervisor; called in a worker, after the fork."""
        os.close(self._write_end)
        threading.Thread(target=self._wait, args=(grace_s,), name="lifeline", daemon=True).start()

    def _wait(self, grace_s: float) -> None:
        while os.read(self._read_end, 1):
            continue
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace_s)
        os._exit(1)
