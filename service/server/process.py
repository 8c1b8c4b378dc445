"""The life of a serving process: load, listen, answer, drain, close."""

import array
import asyncio
import contextlib
import importlib.util
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import uvicorn

from batchproof.installation import hint
from batchproof.service.errors import STARTUP_FAILED, SettingError, reason
from batchproof.service.logs import configure, event, unforeseen
from batchproof.service.protocols import head
from batchproof.service.server import app, banner
from batchproof.service.server.app import App
from batchproof.service.server.gc_policy import paused, settle
from batchproof.service.server.http.asgi import AsgiApp
from batchproof.service.server.http.connection import FastHttpProtocol
from batchproof.service.server.supervisor import CLOSED, MESSAGE_BYTES, READY, VIOLATED, Supervisor
from batchproof.service.settings import Settings

if TYPE_CHECKING:
    from batchproof.service.server.grpc.server import RpcServer

BACKLOG = 2048
SNAPSHOT_S = 1.0  # how often a worker writes its counters down for the others


class Server(uvicorn.Server):
    """uvicorn's server, which drains the service before connections are closed."""

    def __init__(
        self,
        config: uvicorn.Config,
        service: App,
        address: tuple[str, int],
        greet: Callable[[], None],
        control: socket.socket | None = None,
    ) -> None:
        """Serve `service` at `address`, `greet` once connections are taken; a worker gets its own over `control`."""
        super().__init__(config)
        self._address = address
        self._greet = greet
        self.service = service
        self._control = control
        self._rpc: RpcServer | None = None
        self._is_unwritten = False  # whether the last counters could not be written

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, or tell the supervisor that connections are welcome."""
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_unforeseen)
        if self.service.settings.grpc_port:
            from batchproof.service.server.grpc.server import RpcServer

            self._rpc = RpcServer(self.service)
            await self._rpc.start()
        self._write_counters()
        if self._control is not None:
            self._control.setblocking(False)
            loop.add_reader(self._control, self._take_connection)
            self.service.tell_violation = self._tell_violation
            self._control.send(READY)
        self._tell_state()
        self._greet()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what was admitted, then close."""
        self.service.is_ready = False
        self._tell_state()
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control)
        await super().shutdown(sockets)
        if self._rpc is not None:
            await self._rpc.stop(self.service.settings.drain_s)
        await self.service.drain()
        self.service.close()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Begin to stop; a second interrupt does not wait for connections."""
        self.service.is_ready = False
        super().handle_exit(sig, frame)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGTERM and SIGINT, gracefully: the exit code is 0, not death by signal.

        Who stops a process may say so twice: from here to the end of the process a second SIGTERM changes nothing.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        yield
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def _take_connection(self) -> None:
        assert self._control is not None, "only a worker is given connections"
        try:
            space = socket.CMSG_SPACE(array.array("i").itemsize)
            message, ancillary, _, _ = self._control.recvmsg(MESSAGE_BYTES, space)
        except BlockingIOError:
            return
        if not message:  # the supervisor is gone
            asyncio.get_running_loop().remove_reader(self._control)
            self.should_exit = True
            return
        if message.startswith(VIOLATED):
            name, _, version = message.removeprefix(VIOLATED).decode().partition("/")
            self.service.violated(name, int(version))
        descriptors = array.array("i")
        for _, _, data in ancillary:
            descriptors.frombytes(data)
        for descriptor in descriptors:
            connection = socket.socket(fileno=descriptor)
            connection.setblocking(False)
            loop = asyncio.get_running_loop()
            task = loop.create_task(self._connect(connection))
            self.server_state.tasks.add(task)
            task.add_done_callback(self.server_state.tasks.discard)

    async def _connect(self, connection: socket.socket) -> None:
        await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> FastHttpProtocol:
        protocol = FastHttpProtocol(self.config, self.server_state, self.lifespan.state)
        protocol.on_closed = self._tell_closed
        return protocol

    def _tell_closed(self) -> None:
        assert self._control is not None, "only a worker tells"
        with contextlib.suppress(BlockingIOError, BrokenPipeError):  # gone or busy: what is lost is some evenness
            self._control.send(CLOSED)

    def _tell_violation(self, name: str, version: int) -> None:
        assert self._control is not None, "only a worker tells"
        try:
            self._control.send(VIOLATED + f"{name}/{version}".encode())
        except BlockingIOError:
            asyncio.get_running_loop().call_later(SNAPSHOT_S, self._tell_violation, name, version)
        except BrokenPipeError:
            return  # the supervisor is gone, and the others go too

    def _tell_state(self) -> None:
        """Log whether requests are taken."""
        host, port = self._address
        state = "ready" if self.service.is_ready else "not_ready"
        event(state, host=host, port=port, pid=os.getpid(), models=list(self.service.registry.models))

    def _on_unforeseen(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log and count an error in a callback of the event loop: a fault of this program, which goes on."""
        self.service.counters.events["unforeseen_errors"] += 1
        unforeseen(context["message"], context.get("exception"))

    def _write_counters(self) -> None:
        error = self.service.counters.write()
        if error is not None and not self._is_unwritten:
            event("metrics_not_written", 30, folder=self.service.settings.metrics_folder, reason=reason(error))
        self._is_unwritten = error is not None
        asyncio.get_running_loop().call_later(SNAPSHOT_S, self._write_counters)


def config_of(application: AsgiApp, settings: Settings) -> uvicorn.Config:
    """Return the web server's settings."""
    return uvicorn.Config(
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
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, int(settings.drain_s)),
    )


def bind(settings: Settings, port: int) -> socket.socket:
    """Return the bound socket; raises SettingError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, port))
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        raise SettingError(f"Cannot listen on {settings.host} port {port}: {reason}.") from error
    return listener


def check_rpc(settings: Settings) -> None:
    """Raise SettingError where gRPC is asked for and cannot be had. The workers bind its port, not the supervisor."""
    if not settings.grpc_port:
        return
    if importlib.util.find_spec("grpc") is None:
        raise SettingError(f"grpc_port is set, but grpcio is not installed: {hint('grpc')}.")
    bind(settings, settings.grpc_port).close()


def serve(settings: Settings) -> int:
    """Serve until a signal; returns the exit code."""
    configure(settings.log_format, settings.log_level)
    try:
        check_rpc(settings)
        listener = bind(settings, settings.port)
    except SettingError as error:
        return _give_up(error)
    address = listener.getsockname()[:2]
    if settings.workers == 1:
        return _serve_here(settings, address, listener=listener)
    with tempfile.TemporaryDirectory(prefix="batchproof-") as folder:
        shared = settings if settings.metrics_folder else settings.model_copy(update={"metrics_folder": folder})

        def work(control: socket.socket, slot: int) -> int:
            head.reseed()
            return _serve_here(shared, address, control=control, is_first=slot == 0)

        return Supervisor(listener, settings.workers, work, settings.drain_s).run()


def _serve_here(
    settings: Settings,
    address: tuple[str, int],
    *,
    listener: socket.socket | None = None,
    control: socket.socket | None = None,
    is_first: bool = True,
) -> int:
    try:
        with paused():
            service = app.load(settings)
    except SettingError as error:
        return _give_up(error)
    greet = partial(_greet, service, address) if is_first else lambda: None
    server = Server(config_of(AsgiApp(service), settings), service, address, greet, control)
    settle()
    server.run([listener] if listener else [])
    return 0


def _greet(service: App, address: tuple[str, int]) -> None:
    sys.stdout.write(banner.text(service, *address) + "\n")
    sys.stdout.flush()


def _give_up(error: SettingError) -> int:
    sys.stderr.write(f"batchproof: {error}\n")
    return STARTUP_FAILED
