"""A server in a thread of this process, for tests that look inside it or give it a gate of their own."""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from batchproof.service.configuration.settings import Settings
from batchproof.service.server.http.asgi import AsgiApp
from batchproof.service.server.serving import app
from batchproof.service.server.serving.gate import Gate
from batchproof.service.server.start.process import Server, config_of


@dataclass(frozen=True)
class Inside:
    """A server that is ready."""

    app: app.App
    port: int
    loop: asyncio.AbstractEventLoop

    def on_loop(self, function: Callable[[], Any]) -> Any:
        """Call `function` on the server's event loop and return what it returns."""

        async def run() -> Any:
            return function()

        return self.run(run())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run `work` on the server's event loop and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)


@contextmanager
def serving(settings: Settings, gate: Gate | None = None) -> Iterator[Inside]:
    """Serve the models of `settings` on a free port, behind `gate`, until the block ends."""
    service = app.load(settings)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    loops: list[asyncio.AbstractEventLoop] = []
    is_up = threading.Event()

    def greet() -> None:
        loops.append(asyncio.get_running_loop())
        is_up.set()

    server = Server(config_of(AsgiApp(service, gate), settings), service, ("127.0.0.1", port), greet)
    server.capture_signals = nullcontext  # type: ignore[method-assign]  # signals are for the main thread
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        assert is_up.wait(30)
        yield Inside(service, port, loops[0])
    finally:
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()
