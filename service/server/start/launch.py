"""The start of the service: settings to one serving process, or to a supervisor and its workers."""

import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from batchproof.service.configuration.settings import Settings
from batchproof.service.errors import STARTUP_FAILED, SettingError
from batchproof.service.inference.catalogue.plan import Committed
from batchproof.service.inference.catalogue.registry import Snapshot
from batchproof.service.protocols import head
from batchproof.service.runtime.change_counts import ReloadCounts
from batchproof.service.runtime.logs import configure, event
from batchproof.service.runtime.metrics import SUPERVISOR, Counters, shared_folder
from batchproof.service.server.http.asgi import AsgiApp
from batchproof.service.server.http.connections import uvicorn_parts
from batchproof.service.server.reload.staging import resume
from batchproof.service.server.serving import app, banner
from batchproof.service.server.serving.app import App
from batchproof.service.server.serving.authorization import open_to_all
from batchproof.service.server.sockets.listening import bind, listen, reserved_rpc_port
from batchproof.service.server.start.gc_policy import paused, settle
from batchproof.service.server.start.process import Server, config_of, hang_s
from batchproof.service.server.workers.conductor import Conductor
from batchproof.service.server.workers.supervisor import Supervisor
from batchproof.service.server.workers.timing import Timing


def serve(settings: Settings, reread: Callable[[], Settings] | None = None) -> int:
    """Serve until a signal; returns the exit code. `reread` returns the settings anew when SIGHUP asks for them."""
    configure(settings.log_format, settings.log_level)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    try:
        uvicorn_parts.check()
        listener = bind(settings, settings.port)
        address = listener.getsockname()[:2]
        with reserved_rpc_port(settings):
            if settings.workers == 1:
                return _serve_here(settings, address, listener=listener, reread=reread)
            listen(listener)
            with shared_folder(settings.metrics_folder) as folder:
                shared = settings.model_copy(update={"metrics_folder": str(folder)})
                return _supervise(shared, reread or (lambda: shared), listener, address)
    except SettingError as error:
        sys.stderr.write(f"batchproof: {error}\n")
        return STARTUP_FAILED


def _supervise(
    settings: Settings, reread: Callable[[], Settings], listener: socket.socket, address: tuple[str, int]
) -> int:
    reloads = ReloadCounts()
    counters = Counters(Path(settings.metrics_folder), lambda: {"reloads": reloads.snapshot()}, SUPERVISOR)
    counters.write()
    with paused():
        snapshot = app.take_snapshot(settings)  # once: a worker that takes a dead one's place serves the same models
    conductor = Conductor(settings, reread, snapshot, reloads)
    reloads.on_change = partial(conductor.call, counters.write)

    def work(control: socket.socket, slot: int, on_loaded: Callable[[], None]) -> int:
        head.reseed()
        try:
            return _serve_here(
                settings, address, control=control, start=conductor.start, on_loaded=on_loaded, is_first=slot == 0
            )
        except SettingError as error:
            sys.stderr.write(f"batchproof: {error}\n")
            return STARTUP_FAILED

    def count(name: str) -> None:
        counters.events[name] += 1
        counters.write()

    timing = Timing(hang_s(settings), settings.stop_delay_s, settings.drain_s)
    return Supervisor(listener, settings.workers, work, timing, count, conductor).run()


def _serve_here(
    settings: Settings,
    address: tuple[str, int],
    *,
    listener: socket.socket | None = None,
    control: socket.socket | None = None,
    start: Snapshot | Committed | None = None,
    on_loaded: Callable[[], None] = lambda: None,
    is_first: bool = True,
    reread: Callable[[], Settings] | None = None,
) -> int:
    with paused():
        service = resume(settings, start) if isinstance(start, Committed) else app.load(settings, start)
    on_loaded()
    if is_first and open_to_all(settings):
        what = "anybody who reaches this address may call: no keys_file is set"
        event("open_to_all", 30, host=settings.host, what=what)
    greet = partial(_greet, service, address) if is_first else lambda: None
    server = Server(config_of(AsgiApp(service), settings), service, address, greet, control, reread)
    settle()
    server.run([listener] if listener else [])
    return 0


def _greet(service: App, address: tuple[str, int]) -> None:
    sys.stdout.write(banner.text(service, *address) + "\n")
    sys.stdout.flush()
