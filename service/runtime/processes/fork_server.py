"""The helper: a process of one thread that has one module's libraries loaded and forks the processes that use them.

It reads no byte of a stranger's. Forking is safe here because no other thread holds a lock, and cheap because all is loaded.
The helper ends when the service does, however that ended: their socket is closed then. It ignores what asks the service
to stop, as its processes do: a supervisor may signal all processes at once, and the service still answers its callers.

    python -m batchproof.service.runtime.processes.fork_server MODULE MEMORY_BYTES

The module has `warm_up()`, which runs once before the first fork, and `serve(connection)`, which a process runs.
"""

import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from typing import NoReturn

from batchproof.service.runtime.processes.confinement import confine
from batchproof.service.runtime.processes.frames import MESSAGE, STOPS, PeerEndedError


class ForkServer:
    """Forks for each message of `control`, which brings two descriptors: the process's socket, and a pipe for its end."""

    def __init__(self, control: socket.socket, serve: Callable[[socket.socket], None], memory_bytes: int) -> None:
        """Prepare to serve the other side of `control`: a process runs `serve`, with `memory_bytes` more than it begins with."""
        self._control = control
        self._serve = serve
        self._memory_bytes = memory_bytes
        self._woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._pids: dict[int, int] = {}  # by the write end of the pipe that says how that process ended
        self._watched: set[int] = set()
        self._poller = select.poll()
        self._poller.register(control, select.POLLIN)
        self._poller.register(self._woken, select.POLLIN)

    def run(self) -> None:
        """Serve until the other side is gone."""
        while True:
            ready = [descriptor for descriptor, _ in self._poller.poll()]
            for status in self._pids.keys() & ready:  # the service has given these up
                self._watch(status, is_on=False)
                os.kill(self._pids[status], signal.SIGKILL)
            if self._woken in ready:
                os.read(self._woken, 1 << 10)
                self._reap()
            if self._control.fileno() in ready and not self._begin():  # last: it takes numbers that others had
                return

    def _watch(self, status: int, *, is_on: bool) -> None:
        """Have the poller say when the service has closed its end of the pipe `status`, or no longer."""
        if is_on:
            self._poller.register(status, 0)  # closing is reported as an error, which is always looked for
            self._watched.add(status)
        elif status in self._watched:
            self._watched.remove(status)
            self._poller.unregister(status)

    def _begin(self) -> bool:
        """Fork once more; returns False at the end."""
        message, descriptors, _, _ = socket.recv_fds(self._control, len(MESSAGE), 2)
        if not message:
            return False
        if len(descriptors) == 2:
            self._fork(*descriptors)
        else:  # this process has reached its limit of descriptors: the service sees that they are closed
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _fork(self, connection: int, status: int) -> None:
        try:
            pid = os.fork()
        except OSError:  # the service sees that its socket and its pipe are closed
            os.close(status)
        else:
            if not pid:
                self._become_process(connection)
            self._pids[status] = pid
            self._watch(status, is_on=True)
        os.close(connection)

    def _become_process(self, connection: int) -> NoReturn:
        """Do jobs until nothing more comes, and end."""
        status = 1
        try:
            self._leave_all_but(connection)
            confine(self._memory_bytes)
            self._serve(socket.socket(fileno=3))
            status = 0
        except (ConnectionError, PeerEndedError):  # the service has given it up
            status = 0
        finally:
            os._exit(status)

    def _leave_all_but(self, connection: int) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(connection, 3)
        os.closerange(4, max(connection, *self._pids, 4) + 1024)
        nothing = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):  # what libraries print of a stranger's bytes is for nobody
            os.dup2(nothing, standard)

    def _reap(self) -> None:
        """Tell the service how each process ended that has."""
        for status, pid in list(self._pids.items()):
            ended, code = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self._pids[status]
                self._watch(status, is_on=False)
                _tell(status, os.waitstatus_to_exitcode(code))
                os.close(status)


def _tell(status: int, code: int) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(status, b"%d" % code)


def main() -> None:
    """Serve over standard input, which is a socket."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
    control = socket.socket(fileno=os.dup(0))
    module = importlib.import_module(sys.argv[1])
    module.warm_up()
    gc.collect()
    gc.freeze()  # or each collection in a child would copy all of this process's memory
    ForkServer(control, module.serve, int(sys.argv[2])).run()


if __name__ == "__main__":
    main()
