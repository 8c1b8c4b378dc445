"""What uvicorn's protocol asks of the request that a connection is busy with, for requests that no ASGI task answers."""

import asyncio
import io

from batchproof.service.errors import ServiceError
from batchproof.service.protocols.head import RequestHead
from batchproof.service.server.serving.endpoint import PredictEndpoint, Work

MOST_PARTS = 64  # of a body that is not whole, until they are joined
MOST_PART_BYTES = 1 << 20  # that are joined at a time: the event loop does it in some tenths of a millisecond


class PendingRequest:
    """One predict request of a connection, from its head to its answer: what uvicorn asks of a cycle, and no more."""

    message_event = asyncio.Event()  # uvicorn sets it when a connection is lost; nobody waits for it here
    response_complete = False
    disconnected = False
    keep_alive = True
    size = 0  # bytes of body so far
    joined = 0  # of them, those in `received`
    counted = 0  # of them, those that count among the bytes in flight
    refusal: ServiceError | None = None  # known from the head: the body is read and dropped
    received: io.BytesIO | None = None  # what came before `parts`
    work: Work | None = None  # once the whole body is there

    def __init__(self, endpoint: PredictEndpoint, head: RequestHead) -> None:
        """Begin with the head."""
        self.endpoint = endpoint
        self.head = head
        self.parts: list[bytes] = []  # of the body, since they were joined last

    def cancel(self) -> None:
        """Give its place in the queue to others, if it has one."""
        if self.work is not None:
            self.endpoint.cancel(self.work)
            self.work = None

    def refuse(self, refusal: ServiceError) -> None:
        """Let go of what came of a body that is refused, and of what is still to come."""
        self.refusal, self.received = refusal, None
        self.parts.clear()

    def join_parts(self) -> None:
        """Join what came, where it is many parts: each costs more than its bytes, and there may be millions."""
        if len(self.parts) > MOST_PARTS or self.size - self.joined > MOST_PART_BYTES:
            self._join()

    def whole_body(self) -> bytes:
        """Return the body, which is let go of here. A long one is not copied: others would wait for that."""
        if self.received is None:
            body = b"".join(self.parts)
            self.parts.clear()
            return body
        self._join()
        body, self.received = self.received.getvalue(), None
        return body

    def _join(self) -> None:
        if self.received is None:
            self.received = io.BytesIO()
        self.received.writelines(self.parts)
        self.parts.clear()
        self.joined = self.size


class AnsweredRequest:
    """The last request of a connection once it is answered: its endpoint and its body are let go."""

    message_event = asyncio.Event()
    response_complete = True

    def __init__(self, *, keep_alive: bool) -> None:
        """Say whether the connection goes on after the rest of the body, which is dropped."""
        self.keep_alive = keep_alive


ANSWERED, CLOSING = AnsweredRequest(keep_alive=True), AnsweredRequest(keep_alive=False)


class _NoTrailers(list[tuple[bytes, bytes]]):
    """Where the trailers of a chunked body go: they are headers of nothing."""

    def append(self, _header: tuple[bytes, bytes]) -> None:
        """Drop it."""


NO_TRAILERS = _NoTrailers()
