"""Where a large request is read and its answer written: in the thread that asks, or in another process."""

from collections.abc import Callable

from batchproof.service.features.arrays import Outputs
from batchproof.service.inference.admission import Ticket
from batchproof.service.protocols.interface import Answer, Call, Codec, Decoded
from batchproof.service.server.serving.codecs.remote_codec import RemoteCodec

GOOD_BYTES = 1 << 16  # of a body that holds good rows in the usual form, which are read ten times as fast
THREAD_BYTES = 1 << 20  # of such a body that a thread reads: its parser keeps the interpreter's lock meanwhile


class CallerGoneError(Exception):
    """Nobody waits for this answer any more."""


class LargeRequest:
    """A request that is read apart from the event loop: in place of its ticket until it has one."""

    __slots__ = ("is_cancelled", "ticket")

    def __init__(self) -> None:
        """Begin without a ticket."""
        self.ticket: Ticket | None = None
        self.is_cancelled = False

    def go_on(self) -> None:
        """Raise CallerGoneError where its caller has left."""
        if self.is_cancelled or (self.ticket is not None and self.ticket.is_gone):
            raise CallerGoneError


class LargeCodec:
    """The codec of large requests of one model in one protocol. Both methods are called in threads."""

    __slots__ = ("_codec", "_decode_good", "_remote")

    def __init__(self, codec: Codec, remote: RemoteCodec | None) -> None:
        """Give to `remote` what takes long; without it, everything is done with `codec`."""
        self._codec = codec
        self._decode_good: Callable[[Call], Decoded | None] = getattr(codec, "decode_good", lambda _: None)
        self._remote = remote

    def read(self, call: Call, request: LargeRequest, *, is_heavy: bool) -> Decoded:
        """Return a request's rows; raises ServiceError, CallerGoneError and CodecFailedError."""
        size = len(call.body)
        if self._remote is None or (size <= GOOD_BYTES and not is_heavy):
            return self._codec.decode(call)
        good = self._decode_good(call) if GOOD_BYTES < size <= THREAD_BYTES else None
        return self._remote.decode(call, request.go_on) if good is None else good

    def write(self, call: Call, decoded: Decoded, outputs: Outputs, ticket: Ticket) -> Answer:
        """Return the answer; raises as `read` does."""
        if self._remote is None or not self._remote.is_for(decoded, outputs):
            return self._codec.encode(call, decoded, outputs)
        request = LargeRequest()
        request.ticket = ticket
        return self._remote.encode(call, decoded, outputs, request.go_on)
