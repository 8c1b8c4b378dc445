"""The life of a serving process: listen, answer, drain, close."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from batchproof.service.configuration.settings import Settings
from batchproof.service.errors import SettingError, reason
from batchproof.service.runtime.logs import event
from batchproof.service.runtime.threads import do_meanwhile
from batchproof.service.server.http.asgi import AsgiApp
from batchproof.service.server.http.connections import uvicorn_parts
from batchproof.service.server.http.connections.connection import FastHttpProtocol
from batchproof.service.server.reload.signals import Reloads
from batchproof.service.server.serving.app import App
from batchproof.service.server.sockets.listening import BACKLOG, accepted, listen

if TYPE_CHECKING:
    from batchproof.service.server.grpc.server import RpcServer
    from batchproof.service.server.workers.control import SupervisorLink

SNAPSHOT_S = 1.0  # between two times that a process writes its counters for the others
SECURITY_HEADERS = [  # of every answer: browsers guess no type, pages of other origins embed none, caches keep none
    ("x-content-type-options", "nosniff"),
    ("cross-origin-resource-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
    ("cache-control", "no-store"),
]
BEATS = 5  # signs of life that a worker gives in the time after which it counts as hung
LEAST_HANG_S = 1.0  # however short deadlines are, a worker that is busy so long is not killed
LINGER_S = 0.2  # from the last accepted connection until idle ones are closed: a request may be on its way
WORKER_STOP_S = 2.0  # how long after its own stop_delay_s a worker waits for its supervisor's word


class Server(uvicorn_parts.Server):
    """uvicorn's server, which drains the service before connections are closed."""

    def __init__(
        self,
        config: uvicorn_parts.Config,
        service: App,
        address: tuple[str, int],
        greet: Callable[[], None],
        control: socket.socket | None = None,
        reread: Callable[[], Settings] | None = None,
    ) -> None:
        """Serve `service` at `address` and call `greet` once it accepts connections; a worker gets its own by `control`.

        `reread` returns the settings anew when SIGHUP asks for them.
        """
        super().__init__(config)
        self._address = address
        self._greet = greet
        self.service = service
        self._rpc: RpcServer | None = None
        self._link = self._link_over(control) if control else None
        self._reloads = Reloads(service, self._link, reread)
        self._stop_at_s: float | None = None  # monotonic seconds; set by the first signal
        self._is_stop_logged = False
        self._is_unwritten = False  # whether the last counters could not be written

    def _link_over(self, control: socket.socket) -> "SupervisorLink":
        from batchproof.service.server.workers.control import SupervisorLink

        return SupervisorLink(
            control,
            beat_s=hang_s(self.service.settings) / BEATS,
            is_alive=lambda: not self.service.is_stuck,
            on_connection=self._take_connection,
            on_violated=self.service.violated,
            on_stop=self._begin_shutdown,
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, or ask the supervisor for connections; raises SettingError where that is not possible."""
        for listener in sockets or []:
            listen(listener)
        await super().startup([])  # it would let a handshake take a minute, and renew no certificate
        loop, tls = asyncio.get_running_loop(), self.service.tls
        for listener in sockets or []:
            server = await loop.create_server(
                self._protocol,
                sock=listener,
                backlog=self.config.backlog,
                ssl=None if tls is None else tls.context,
                ssl_handshake_timeout=None if tls is None else self.service.settings.read_timeout_s,
            )
            self.servers.append(server)
        loop.set_exception_handler(self._on_unforeseen)
        if self.service.settings.grpc_port:
            await self._start_rpc()
        self._write_counters()
        if self._link is not None:
            self.service.tell_violation = self._link.tell_violation
        if self.service.journal is not None:
            self.service.journal.begin()
        self._reloads.begin()
        self._greet()
        self._log_state()

    async def _start_rpc(self) -> None:
        from batchproof.service.server.grpc.server import RpcServer

        application = self.config.app
        assert isinstance(application, AsgiApp), "config_of makes the configuration"
        try:
            self._rpc = RpcServer(self.service, application.router.gate)
        except RuntimeError as error:
            settings = self.service.settings
            raise SettingError(
                f"Cannot listen on {settings.host} port {settings.grpc_port} (gRPC): {error}."
            ) from error
        await self._rpc.start()

    async def on_tick(self, counter: int) -> bool:
        """Go on until a stop is due."""
        self._reloads.look()
        if self._stop_at_s is not None:
            self._log_stop()
            self.should_exit |= time.monotonic() >= self._stop_at_s
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what was admitted, then close."""
        self.service.begin_stop()
        self._log_stop()
        if self._link is not None:
            self._link.close()
        await self._let_connections_end(sockets or [])
        await super().shutdown(sockets)
        if self._rpc is not None:
            await self._rpc.stop(self.service.settings.drain_s)
        await self.service.drain()
        self.service.close()

    async def _let_connections_end(self, listeners: Sequence[socket.socket]) -> None:
        """Accept no more, and give requests that are on their way a moment: each answer closes its connection."""
        for listener in listeners:
            for connection in accepted(listener):  # closing it would reset those that the kernel has for us
                self._take_connection(connection)
        for server in self.servers:
            server.close()
        end_s = time.monotonic() + LINGER_S
        is_open = True
        while is_open and time.monotonic() < end_s and not self.force_exit:  # uvicorn has no event for the last one
            await asyncio.sleep(LINGER_S / 10)
            is_open = bool(self.server_state.connections)

    def handle_exit(self, sig: int, _frame: Any) -> None:
        """Begin to stop: unready at once, and with `Connection: close` in every answer until connections are closed.

        A second interrupt does not wait for connections.
        """
        if sig == signal.SIGINT and self._stop_at_s is not None:
            self.should_exit = self.force_exit = True
        if self._stop_at_s is not None:
            return
        delay_s = 0.0 if sig == signal.SIGINT else self.service.settings.stop_delay_s
        if self._link is not None:  # the supervisor says when; this is for a signal that only this worker got
            delay_s += WORKER_STOP_S
        self._stop_at_s = time.monotonic() + delay_s
        self.service.begin_stop()
        if not delay_s:
            self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop gracefully on SIGTERM and SIGINT: the exit code is 0, not death by signal.

        A platform may send SIGTERM twice: from here to the end of the process a second one changes nothing.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        self._reloads.listen()
        yield
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def _begin_shutdown(self) -> None:
        """Stop now: the supervisor has no further connection, or is gone."""
        self.should_exit = True

    def _take_connection(self, connection: socket.socket) -> None:
        task = asyncio.get_running_loop().create_task(self._connect(connection))
        self.server_state.tasks.add(task)
        task.add_done_callback(self.server_state.tasks.discard)

    async def _connect(self, connection: socket.socket) -> None:
        loop, protocol, tls = asyncio.get_running_loop(), self._protocol(), self.service.tls
        if tls is None:
            await loop.connect_accepted_socket(lambda: protocol, connection)
            return
        try:
            await loop.connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=tls.context,
                ssl_handshake_timeout=self.service.settings.read_timeout_s,
            )
        except OSError:  # no TLS, no certificate that is accepted, or gone: the caller's side has the reason
            if protocol.on_closed is not None and getattr(protocol, "transport", None) is None:
                protocol.on_closed()

    def _protocol(self) -> FastHttpProtocol:
        protocol = FastHttpProtocol(self.config, self.server_state, self.lifespan.state)
        if self._link is not None:
            protocol.on_closed = self._link.tell_closed
        return protocol

    def _log_stop(self) -> None:
        """Log once that the stop has begun; not from the signal's handler, which may interrupt another event."""
        if not self._is_stop_logged:
            self._is_stop_logged = True
            self._log_state()

    def _log_state(self) -> None:
        """Log whether the process is ready."""
        host, port = self._address
        state = "ready" if self.service.is_ready else "not_ready"
        event(state, host=host, port=port, pid=os.getpid(), models=list(self.service.registry.models))

    def _on_unforeseen(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log and count an error in a callback of the event loop: a fault of this program, which goes on."""
        self.service.unforeseen(context["message"], context.get("exception"))

    def _write_counters(self) -> None:
        error = self.service.counters.write()
        if error is not None and not self._is_unwritten:
            event("metrics_not_written", 30, folder=self.service.settings.metrics_folder, reason=reason(error))
        self._is_unwritten = error is not None
        for renewed in (self.service.authorization, self.service.tls):
            if renewed is not None:
                do_meanwhile("keys and certificates are read again", renewed.refresh)
        asyncio.get_running_loop().call_later(SNAPSHOT_S, self._write_counters)


def config_of(application: AsgiApp, settings: Settings) -> uvicorn_parts.Config:
    """Return the web server's settings."""
    return uvicorn_parts.Config(
        application,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=FastHttpProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        headers=SECURITY_HEADERS,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=max(1, int(settings.drain_s)),
    )


def hang_s(settings: Settings) -> float:
    """Return how long a worker may give no sign of life: by then, its callers have waited for all of their deadline."""
    return max(LEAST_HANG_S, min(settings.heartbeat_s, settings.timeout_s))
