"""The start of several workers: the models are read once, and a supervisor keeps the workers running.

Workers are forks. So this loads what a worker needs before it can serve, and what it needs to follow reloads. The engine's
library is among it, whose tables of operators the workers share; it has no thread before a model is loaded.
"""

import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from batchproof.service.configuration.settings import Settings
from batchproof.service.errors import STARTUP_FAILED, EngineError, SettingError
from batchproof.service.inference.catalogue.plan import Committed
from batchproof.service.inference.engine import provider_of
from batchproof.service.protocols import head
from batchproof.service.runtime.change_counts import ReloadCounts
from batchproof.service.runtime.metrics import SUPERVISOR, Counters, shared_folder
from batchproof.service.server.loading.loading import engine_options
from batchproof.service.server.reload.staging import resume
from batchproof.service.server.serving import app
from batchproof.service.server.serving.app import App
from batchproof.service.server.start.gc_policy import paused
from batchproof.service.server.start.process import hang_s
from batchproof.service.server.start.serving import serve_here
from batchproof.service.server.workers.conductor import Conductor
from batchproof.service.server.workers.supervisor import Supervisor
from batchproof.service.server.workers.timing import Timing


def supervise(
    settings: Settings, reread: Callable[[], Settings] | None, listener: socket.socket, address: tuple[str, int]
) -> int:
    """Serve with as many workers as the settings say until a signal; returns the exit code. Raises SettingError."""
    with shared_folder(settings.metrics_folder) as folder:
        shared = settings.model_copy(update={"metrics_folder": str(folder)})
        return _supervise(shared, reread or (lambda: shared), listener, address)


def _supervise(
    settings: Settings, reread: Callable[[], Settings], listener: socket.socket, address: tuple[str, int]
) -> int:
    reloads = ReloadCounts()
    counters = Counters(Path(settings.metrics_folder), lambda: {"reloads": reloads.snapshot()}, SUPERVISOR)
    counters.write()
    with paused():
        _load_engine(settings)
        snapshot = app.take_snapshot(settings)  # once: a worker that takes a dead one's place serves the same models
    conductor = Conductor(settings, reread, snapshot, reloads)
    reloads.on_change = partial(conductor.call, counters.write)

    def work(control: socket.socket, slot: int, on_loaded: Callable[[], None]) -> int:
        head.reseed()
        load = partial(_load, settings, conductor)
        try:
            return serve_here(settings, address, load, control=control, on_loaded=on_loaded, is_first=slot == 0)
        except SettingError as error:
            sys.stderr.write(f"batchproof: {error}\n")
            return STARTUP_FAILED

    def count(name: str) -> None:
        counters.events[name] += 1
        counters.write()

    timing = Timing(hang_s(settings), settings.stop_delay_s, settings.drain_s)
    return Supervisor(listener, settings.workers, work, timing, count, conductor).run()


def _load_engine(settings: Settings) -> None:
    try:
        provider_of(engine_options(settings))
    except EngineError as error:
        raise SettingError(f"{error}.") from error


def _load(settings: Settings, conductor: Conductor) -> App:
    """Return what a worker serves: the models as they were read at the start, or what is committed by now."""
    start = conductor.start
    return resume(settings, start) if isinstance(start, Committed) else app.load(settings, start)
