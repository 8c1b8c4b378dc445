"""The end of a connection that reads no further request: behind the answers that are still to come, a last one or none."""

import asyncio
from collections.abc import Callable

from batchproof.service.protocols.interface import Answer


class Discarding:
    """What takes the place of the parser of a connection that reads no further request."""

    def feed_data(self, _data: bytes | memoryview) -> None:
        """Drop the bytes."""

    def should_keep_alive(self) -> bool:
        """Return that the connection ends."""
        return False


class Farewell:
    """What a connection ends with: for uvicorn, a request in the pipeline whose turn comes after all others."""

    message_event = asyncio.Event()  # uvicorn sets it when a connection is lost; nobody waits for it here
    response_complete = False
    disconnected = False
    keep_alive = False

    def __init__(self, last: Answer | None, say: Callable[[Answer | None], None]) -> None:
        """Call `say` with the last answer, if there is one, when its turn has come."""
        self._last = last
        self._say = say

    def say(self) -> None:
        """Say it now."""
        self.response_complete = True
        self._say(self._last)

    async def run_asgi(self, _app: object) -> None:
        """Say it: uvicorn starts a pipelined request so."""
        if not self.disconnected:
            self.say()
