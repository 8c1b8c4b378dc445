"""The helper: a process of one thread that has all of pyarrow loaded and forks a process for each table.

It reads no byte of a table. Forking takes a few milliseconds, and is safe here because no other thread holds a lock.
It ends when the service does: their socket is closed then, however the service ended.
"""

import gc
import os
import select
import signal
import socket
from typing import NoReturn

from batchproof.service.tables.sandbox.reader import serve


class ForkServer:
    """Forks for each message of `control`, which brings three descriptors: a table, its socket, its pipe for the end."""

    def __init__(self, control: socket.socket) -> None:
        """Prepare to serve the other side of `control`."""
        self._control = control
        self._woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._pids: dict[int, int] = {}  # by the write end of the pipe that says how a table's process ended
        self._watched: set[int] = set()
        self._poller = select.poll()
        self._poller.register(control, select.POLLIN)
        self._poller.register(self._woken, select.POLLIN)

    def run(self) -> None:
        """Serve until the other side is gone."""
        while True:
            ready = [descriptor for descriptor, _ in self._poller.poll()]
            for status in self._pids.keys() & ready:  # nobody waits for these tables any more
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
        """Fork for the next table; returns False at the end."""
        message, descriptors, _, _ = socket.recv_fds(self._control, 1, 3)
        if not message:
            return False
        if len(descriptors) == 3:
            self._fork(*descriptors)
        return True

    def _fork(self, table: int, connection: int, status: int) -> None:
        try:
            pid = os.fork()
        except OSError:  # the service sees that its sockets close
            os.close(status)
        else:
            if not pid:
                self._become_reader(table, connection)
            self._pids[status] = pid
            self._watch(status, is_on=True)
        os.close(table)
        os.close(connection)

    def _become_reader(self, table: int, connection: int) -> NoReturn:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        low, high = sorted((table, connection))
        os.closerange(3, low)
        os.closerange(low + 1, high)
        os.closerange(high + 1, high + 1024)
        nothing = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):  # what libraries print of a stranger's bytes is for nobody
            os.dup2(nothing, standard)
        serve(table, connection)

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
    try:
        os.write(status, b"%d" % code)
    except BrokenPipeError:
        return


def main() -> None:
    """Serve over standard input, which is a socket."""
    control = socket.socket(fileno=os.dup(0))
    gc.collect()
    gc.freeze()  # or each collection in a child would copy all of this process's memory
    ForkServer(control).run()


if __name__ == "__main__":
    main()
