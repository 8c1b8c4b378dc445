"""The life of one serving process: load, listen, answer, drain, close."""

import gc
import socket
import sys
from typing import Any

import uvicorn

from service import app
from service.app import Service
from service.asgi import App
from service.errors import STARTUP_FAILED, SettingError
from service.logs import configure, event
from service.protocol import Protocol
from service.settings import Settings

BACKLOG = 2048


class Server(uvicorn.Server):
    """uvicorn's server, which tells the service to drain before connections are closed."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        """Serve `service`."""
        super().__init__(config)
        self.service = service

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what was admitted, then close."""
        await self.service.drain()
        await super().shutdown(sockets)
        self.service.close()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Begin to stop; a second signal does not wait for connections."""
        self.service.is_ready = False
        super().handle_exit(sig, frame)
        self._captured_signals.clear()  # the stop is graceful: exit code 0, not death by signal


def config_of(application: App, settings: Settings) -> uvicorn.Config:
    """Return the web server's settings."""
    return uvicorn.Config(
        application,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=Protocol,
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


def bind(settings: Settings) -> socket.socket:
    """Return the listening socket; raises SettingError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise SettingError(f"Cannot listen on {settings.host} port {settings.port}: {error.strerror}.") from error
    listener.set_inheritable(True)
    return listener


def settle() -> None:
    """Keep what was loaded out of every later collection: collections are what the tail latency is made of."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def serve(settings: Settings) -> int:
    """Serve in this process until a signal; returns the exit code."""
    configure(settings.log_format, settings.log_level)
    try:
        listener = bind(settings)
        service = app.load(settings)
    except SettingError as error:
        print(f"batchproof: {error}", file=sys.stderr)
        return STARTUP_FAILED
    server = Server(config_of(App(service), settings), service)
    settle()
    host, port = listener.getsockname()[:2]
    event("ready" if service.is_ready else "not_ready", host=host, port=port, models=list(service.registry.models))
    server.run([listener])
    return 0
