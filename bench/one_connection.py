"""One connection of the service without a socket: its requests take the whole way from bytes to bytes, in this process."""

import asyncio
import time
from typing import Any

from batchproof.service.server.http.asgi import AsgiApp
from batchproof.service.server.http.connections.connection import FastHttpProtocol
from batchproof.service.server.http.connections.uvicorn_parts import ServerState
from batchproof.service.server.serving.app import App
from batchproof.service.server.serving.gate import Gate
from batchproof.service.server.start.process import config_of
from bench.bodies import Request


class Wire(asyncio.Transport):
    """The other end: counts answers, and ends the program at one that is not 200."""

    def __init__(self) -> None:
        """Begin with no answer."""
        super().__init__({"peername": ("127.0.0.1", 40000), "sockname": ("127.0.0.1", 8000)})
        self.answers = 0

    def write(self, data: Any) -> None:
        """Take an answer."""
        if not bytes(data).startswith(b"HTTP/1.1 200 "):
            raise SystemExit(f"not answered well: {bytes(data)[:500]!r}")
        self.answers += 1

    def is_closing(self) -> bool:
        """Return whether the connection ends: never."""
        return False

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait for the other end: none."""
        return 0


class Connection:
    """A connection of a service; made on the event loop."""

    def __init__(self, served: App, gate: Gate | None = None) -> None:
        """Connect behind `gate`, by default that of the settings."""
        config = config_of(AsgiApp(served, gate), served.settings)
        config.load()
        self._protocol = FastHttpProtocol(config, ServerState(), {})
        self._wire = Wire()
        self._protocol.connection_made(self._wire)

    async def ask(self, sent: bytes, times: int) -> float:
        """Send the same request again and again; returns the microseconds of this thread's CPU that one took."""
        wire, receive = self._wire, self._protocol.data_received
        start_s = time.thread_time()
        for _ in range(times):
            before = wire.answers
            receive(sent)
            while wire.answers == before:  # noqa: ASYNC110 - the loop runs the batch in its next turn
                await asyncio.sleep(0)
        return (time.thread_time() - start_s) / times * 1e6


def raw(request: Request, *headers: str) -> bytes:
    """Return the bytes of a request, as a load generator sends them, with these headers more."""
    lines = [f"POST {request.path} HTTP/1.1", "Host: 127.0.0.1:8000", f"Content-Length: {len(request.body)}"]
    lines += [*(f"{name}: {value}" for name, value in request.headers.items()), *headers]
    return "\r\n".join([*lines, "", ""]).encode() + request.body
