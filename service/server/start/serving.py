"""One serving process: load the models, say so, and serve until a signal."""

import socket
from collections.abc import Callable
from functools import partial

from batchproof.service.configuration.settings import Settings
from batchproof.service.runtime.logs import event
from batchproof.service.server.http.asgi import AsgiApp
from batchproof.service.server.serving import banner
from batchproof.service.server.serving.app import App
from batchproof.service.server.sockets.listening import is_loopback
from batchproof.service.server.start.gc_policy import paused, settle
from batchproof.service.server.start.process import Server, config_of


def serve_here(
    settings: Settings,
    address: tuple[str, int],
    load: Callable[[], App],
    *,
    listener: socket.socket | None = None,
    control: socket.socket | None = None,
    on_loaded: Callable[[], None] = lambda: None,
    is_first: bool = True,
    reread: Callable[[], Settings] | None = None,
) -> int:
    """Serve what `load` returns, at a `listener` or with the connections that come over `control`; returns the exit code.

    `on_loaded` is called once the models are there, and the first process greets. Raises SettingError.
    """
    with paused():
        app = load()
    on_loaded()
    if is_first and open_to_all(settings):
        what = "anybody who reaches this address may call: no keys_file is set"
        event("open_to_all", 30, host=settings.host, what=what)
    greet = partial(banner.greet, app, *address) if is_first else lambda: None
    server = Server(config_of(AsgiApp(app), settings), app, address, greet, control, reread)
    settle()
    server.run([listener] if listener else [])
    return 0


def open_to_all(settings: Settings) -> bool:
    """Return whether anybody who reaches this machine may call."""
    needs_certificate = settings.tls_client_ca and settings.tls_client == "require"
    return not settings.wants_keys and not is_loopback(settings.host) and not needs_certificate
