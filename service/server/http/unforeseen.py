"""What surrounds every request of the long way: an end to errors that nothing foresees, and to answers that break off."""

import asyncio
from typing import Self

from batchproof.service.errors import ServiceError
from batchproof.service.protocols.head import RequestHead
from batchproof.service.server.http.monitoring.access_log import Message, Scope, Send
from batchproof.service.server.serving.app import App

ABANDON_KEY = "batchproof.abandon"  # where an ASGI scope holds what breaks its answer off


class Sending:
    """ASGI's `send`, which knows whether an answer has begun."""

    def __init__(self, send: Send) -> None:
        """Send with `send`."""
        self._send = send
        self.has_begun = False

    async def __call__(self, message: Message) -> None:
        """Send a message."""
        if message["type"] == "http.response.start":
            self.has_begun = True
        await self._send(message)


class Unforeseen:
    """A block whose unforeseen errors are logged, counted and told as a refusal; a cancelled one breaks its answer off."""

    def __init__(self, app: App, scope: Scope, head: RequestHead) -> None:
        """Guard the request of `scope`."""
        self._app = app
        self._scope = scope
        self._head = head
        self.error: ServiceError | None = None

    def __enter__(self) -> Self:
        """Begin the block."""
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        """End it; returns whether the error ends here."""
        if isinstance(error, asyncio.CancelledError):  # by a stop of the service, which waited long enough
            break_off(self._scope)
            return True
        if not isinstance(error, Exception):
            return False
        self.error = self._app.unforeseen(f"{self._scope['method']} {self._scope['path']:.200}", error, self._head.ids)
        return True


def break_off(scope: Scope) -> None:
    """Close the connection of a request whose answer does not come to its end."""
    if ABANDON_KEY in scope:
        scope[ABANDON_KEY]()
