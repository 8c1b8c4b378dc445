"""Several processes behind one address: the supervisor accepts connections and hands each to the least busy worker.

A connection is handed over once, as a file descriptor; its requests never pass through the supervisor, which runs no
engine. `connection_balancer` says which worker gets it, `control` what supervisor and workers tell each other.

A worker that dies, or gives no sign of life for `hang_s`, takes only the connections with it that it has confirmed; another
one gets the rest. It is replaced at once, and its replacement must serve the versions and checksums that the first worker
served: where it cannot, the others go on, and the supervisor tries again, ever less often. What one worker's audit saw of a
model is broadcast to all others, later ones too: they share the host. A worker that cannot start at the service's own
start stops the service.
"""

import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable

from batchproof.service.errors import STARTUP_FAILED, reason
from batchproof.service.runtime.logs import event
from batchproof.service.server.loading.early_hangup import handle_hangups
from batchproof.service.server.workers import control
from batchproof.service.server.workers.conductor import Conductor
from batchproof.service.server.workers.connection_balancer import ConnectionBalancer, Worker
from batchproof.service.server.workers.intake import Intake
from batchproof.service.server.workers.lifeline import Lifeline
from batchproof.service.server.workers.timing import Restarts, Timing

KILL_AFTER_S = 5.0  # beyond drain_s, a worker that still runs is killed
MESSAGES = 64  # read from one worker in one turn
RETRY_S = 0.2  # between attempts to accept, or hand over, a connection that there was no room for

# (control, slot, what to call once the models are loaded) -> exit code; runs in the worker
Work = Callable[[socket.socket, int, Callable[[], None]], int]


class Supervisor:
    """Keeps `count` workers running and deals connections to them."""

    def __init__(
        self,
        listener: socket.socket,
        count: int,
        work: Work,
        timing: Timing,
        count_event: Callable[[str], None],
        conductor: Conductor,
    ) -> None:
        """Accept from `listener`, which listens; `work` is what a worker does; `count_event` counts by name."""
        self._listener = listener
        self._count = count
        self._work = work
        self._timing = timing
        self._count_event = count_event
        self._selector = selectors.DefaultSelector()
        self._balancer = ConnectionBalancer()
        self._lifeline = Lifeline()
        self._conductor = conductor
        self._workers = conductor.workers  # by slot
        self._restarts = Restarts()
        self._violations: list[bytes] = []
        self._intake = Intake(listener, self._selector, self._balancer)
        self._is_stopping = False
        self._last_turn_s = time.monotonic()
        self._close_at_s: float | None = None  # when a stop closes the listener
        self._kill_at_s: float | None = None  # when it kills the workers that are left
        self._exit_code = 0

    def run(self) -> int:
        """Supervise until a signal; returns the exit code."""
        self._listener.setblocking(False)
        woken, wake = socket.socketpair()
        for end in (woken, wake):
            end.setblocking(False)
        signal.set_wakeup_fd(wake.fileno())
        self._conductor.wake_by(wake)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        if handle_hangups(lambda *_: None):
            self._hang_up()
        self._selector.register(woken, selectors.EVENT_READ, lambda: self._on_signal(woken))
        for slot in range(self._count):
            self._start(slot)
        while self._workers or self._restarts:
            self._turn(self._wait_s())
            self._look_at_clock()
        self._balancer.close()
        return self._exit_code

    def _turn(self, timeout_s: float) -> None:
        for key, _ in self._selector.select(timeout_s):
            # An earlier event of this turn may have closed it, and its descriptor may be another's by now.
            if self._selector.get_map().get(key.fd) is key:
                key.data()

    def _wait_s(self) -> float:
        """Return how long nothing has to be done unless there is news."""
        now_s = time.monotonic()
        steps = [at_s - now_s for at_s in (self._close_at_s, self._kill_at_s) if at_s is not None]
        retry_s = RETRY_S if self._balancer.waiting or self._intake.is_full else self._timing.hang_s / 5
        return max(0.0, min([retry_s, *steps, *self._restarts.next_s()]))

    def _look_at_clock(self) -> None:
        """Do what is due: restarts, the steps of a stop, and the search for workers that hang."""
        now_s = time.monotonic()
        if self._kill_at_s is not None and now_s >= self._kill_at_s:
            self._kill_at_s = None
            for worker in self._workers.values():
                self._kill(worker)
        if self._close_at_s is not None and now_s >= self._close_at_s:
            self._close()
        for slot in self._restarts.due():
            self._start(slot)
        for worker in self._workers.values():
            if worker.is_ready:
                worker.tell()
        self._conductor.look()
        self._kill_hung(now_s)
        self._intake.is_full = False
        self._intake.resume(self._workers.values())

    def _kill_hung(self, now_s: float) -> None:
        if now_s - self._last_turn_s > self._timing.hang_s / 2:  # this process was stopped, and perhaps all were
            for worker in self._workers.values():
                worker.last_sign_s = now_s
        self._last_turn_s = now_s
        if not self._intake.is_open:  # a worker that stops has nothing more to say
            return
        for worker in self._workers.values():
            silent_s = now_s - worker.last_sign_s
            if worker.is_ready and not worker.is_killed and silent_s > self._timing.hang_s:
                event("worker_hung", 40, worker=worker.slot, pid=worker.pid, silent_s=round(silent_s, 1))
                self._count_event("workers_hung")
                self._kill(worker)

    def _kill(self, worker: Worker) -> None:
        worker.is_killed = True
        os.kill(worker.pid, signal.SIGKILL)

    def _start(self, slot: int) -> None:
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            pid = os.fork()
        except OSError as error:
            self._retry(slot, STARTUP_FAILED, reason(error))
            return
        if pid == 0:
            self._become_worker(ours, theirs, slot)
        theirs.close()
        ours.setblocking(False)
        worker = self._workers[slot] = Worker(slot, pid, ours, time.monotonic())
        self._violations = [message for message in self._violations if self._conductor.is_current(message[1:])]
        worker.unsent.extend(self._violations)
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._on_messages(worker))

    def _become_worker(self, ours: socket.socket, theirs: socket.socket, slot: int) -> None:
        """Run the work in the forked process and leave it, whatever happens, without the supervisor's own clean-up."""
        code = STARTUP_FAILED
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it serves; `_on_ready` sends it again
            self._lifeline.adopt()
            self._selector.close()
            self._intake.forget()
            ours.close()
            self._balancer.close()
            for other in self._workers.values():
                other.control.close()
                for _, connection in other.unconfirmed:
                    connection.close()
            code = self._work(theirs, slot, lambda: self._lifeline.watch(self._timing.drain_s + KILL_AFTER_S))
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _on_messages(self, worker: Worker) -> None:
        for _ in range(MESSAGES):
            try:
                message = worker.control.recv(control.MESSAGE_BYTES)
            except BlockingIOError:
                break
            except ConnectionResetError:
                message = b""
            if not message:
                self._on_end(worker)
                return
            self._on_message(worker, message)
        worker.last_sign_s = time.monotonic()
        if worker.is_ready:
            worker.tell()
        self._intake.resume(self._workers.values())

    def _on_message(self, worker: Worker, message: bytes) -> None:
        if message == control.BEAT:
            return
        if message in (control.TAKEN, control.RETURNED):
            self._balancer.confirm(worker, is_taken=message == control.TAKEN)
        elif message == control.CLOSED:
            worker.connections -= 1
        elif letter := worker.letters.add(message):
            kind, body = letter
            if kind == control.READY:
                self._on_ready(worker, body)
            else:
                self._conductor.on_letter(worker, kind, body)
        elif message.startswith(control.VIOLATED) and message not in self._violations:
            self._violations.append(message)
            for other in self._workers.values():
                if other is not worker:
                    other.unsent.append(message)
                    if other.is_ready:
                        other.tell()

    def _on_ready(self, worker: Worker, plan: bytes) -> None:
        """Give a worker its place, unless it serves other models than are committed."""
        if not self._conductor.admit(worker, plan):
            self._kill(worker)
            return
        self._restarts.succeeded(worker.slot)
        worker.is_ready = True
        worker.pass_hangup_on()
        self._conductor.on_ready(worker)

    def _on_end(self, worker: Worker) -> None:
        self._selector.unregister(worker.control)
        worker.control.close()
        _, status = os.waitpid(worker.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        del self._workers[worker.slot]
        self._balancer.take_back(worker)
        self._conductor.on_end(worker)
        if worker.is_outdated and not self._is_stopping:
            self._start(worker.slot)
        elif worker.is_ready and not self._is_stopping:
            if not worker.is_killed:
                self._count_event("workers_died")
            event("worker_replaced", 30, worker=worker.slot, pid=worker.pid, exit_code=code)
            self._start(worker.slot)
        elif not self._is_stopping:
            self._retry(worker.slot, code, "other models than were committed" if worker.is_killed else "")
        self._intake.resume(self._workers.values())

    def _retry(self, slot: int, code: int, why: str) -> None:
        """Plan the next attempt to start a worker that could not start, or end the service where none would help."""
        is_alone = not any(worker.is_ready for worker in self._workers.values())
        if (self._conductor.plan is None and code > 0) or (is_alone and self._restarts.is_hopeless(slot)):
            self._exit_code = code if code > 0 else STARTUP_FAILED
            self._stop(0.0)
            return
        wait_s = self._restarts.plan(slot)
        event("worker_not_started", 40, worker=slot, exit_code=code, why=why or "see the lines above", retry_s=wait_s)
        self._count_event("workers_not_started")

    def _on_signal(self, woken: socket.socket) -> None:
        numbers = woken.recv(64)
        self._conductor.run_calls()
        if signal.SIGINT in numbers:
            self._stop(0.0)  # somebody at a terminal waits for it
        elif signal.SIGTERM in numbers:
            self._stop(self._timing.stop_delay_s)
        elif signal.SIGHUP in numbers:
            self._hang_up()

    def _hang_up(self) -> None:
        """Read settings and models folder anew, and have workers read what else they read from files."""
        for worker in self._workers.values():
            worker.is_hung_up = True
            worker.pass_hangup_on()
        self._conductor.rescan()

    def _stop(self, delay_s: float) -> None:
        """Let every worker go unready; accept connections for `delay_s` more and let workers answer what they have."""
        close_at_s = time.monotonic() + delay_s
        if not self._is_stopping:
            self._is_stopping = True
            self._conductor.stop()
            self._restarts.clear()
            self._close_at_s = close_at_s
            for worker in self._workers.values():
                os.kill(worker.pid, signal.SIGTERM)
        elif self._close_at_s is not None:
            self._close_at_s = min(self._close_at_s, close_at_s)

    def _close(self) -> None:
        """Accept what the kernel has accepted, then no more, and tell every worker that nothing follows."""
        self._close_at_s = None
        self._intake.close()
        for worker in self._workers.values():
            worker.unsent.append(control.STOP)
            worker.tell()
        self._kill_at_s = time.monotonic() + self._timing.drain_s + KILL_AFTER_S
