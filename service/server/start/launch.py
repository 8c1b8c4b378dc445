"""The start of the service: settings to one serving process, or to a supervisor and its workers."""

import sys
from collections.abc import Callable
from functools import partial

from batchproof.service.configuration.settings import Settings
from batchproof.service.errors import STARTUP_FAILED, SettingError
from batchproof.service.runtime.logs import configure
from batchproof.service.runtime.tracing import tracer
from batchproof.service.server.http.connections import uvicorn_parts
from batchproof.service.server.loading.early_hangup import note_hangups
from batchproof.service.server.serving import app
from batchproof.service.server.sockets.listening import bind, listen, reserved_rpc_port
from batchproof.service.server.start.serving import serve_here


def serve(settings: Settings, reread: Callable[[], Settings] | None = None) -> int:
    """Serve until a signal; returns the exit code. `reread` returns the settings anew when SIGHUP asks for them."""
    configure(settings.log_format, settings.log_level)
    tracer.report()
    note_hangups()
    try:
        uvicorn_parts.check()
        listener = bind(settings, settings.port)
        address = listener.getsockname()[:2]
        with reserved_rpc_port(settings):
            if settings.workers == 1:
                return serve_here(settings, address, partial(app.load, settings), listener=listener, reread=reread)
            from batchproof.service.server.start.supervising import supervise

            listen(listener)
            return supervise(settings, reread, listener, address)
    except SettingError as error:
        sys.stderr.write(f"batchproof: {error}\n")
        return STARTUP_FAILED
