"""Where a large request is read and its answer written: in the thread that asks, or in another process."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from batchproof.service.errors import CallerGoneError
from batchproof.service.features.arrays import Outputs
from batchproof.service.protocols.interface import Answer, Call, Codec, Decoded, Headers

if TYPE_CHECKING:
    from batchproof.service.server.serving.codecs.remote_codec import RemoteCodec

GOOD_BYTES = 1 << 16  # of a body that holds good rows in the usual form, which are read ten times as fast
THREAD_BYTES = 1 << 20  # of such a body that a thread reads: its parser keeps the interpreter's lock meanwhile


class LargeCall(Call):
    """A request that may be read, and its answer written, apart from the event loop."""

    __slots__ = ("is_gone",)

    def __init__(self, body: bytes, headers: Headers, request_id: str) -> None:
        """Begin with a caller that waits."""
        super().__init__(body, headers, request_id)
        self.is_gone = False  # whether its caller went away

    def go_on(self) -> None:
        """Raise CallerGoneError where nobody waits for the answer any more."""
        if self.is_gone:
            raise CallerGoneError


class LargeCodec:
    """The codec of large requests of one model in one protocol. Both methods are called in threads."""

    __slots__ = ("_codec", "_decode_good", "_decode_raw", "_make_remote", "_remote")

    def __init__(self, codec: Codec, make_remote: "Callable[[], RemoteCodec] | None") -> None:
        """Give what takes long to the codec that `make_remote` makes for it; without it, everything is done with `codec`."""
        self._codec = codec
        self._decode_good: Callable[[Call], Decoded | None] = getattr(codec, "decode_good", lambda _: None)
        self._decode_raw: Callable[[Call], Decoded | None] = getattr(codec, "decode_raw", lambda _: None)
        self._make_remote = make_remote
        self._remote: RemoteCodec | None = None

    def read(self, call: LargeCall, *, is_heavy: bool) -> Decoded:
        """Return a request's rows; raises ServiceError, CodecFailedError, and CallerGoneError as soon as its caller left."""
        size = len(call.body)
        if size <= GOOD_BYTES and not is_heavy:
            return self._codec.decode(call)
        quick = None if is_heavy else self._decode_raw(call)
        if quick is None and GOOD_BYTES < size <= THREAD_BYTES:
            quick = self._decode_good(call)
        if quick is not None:
            return quick
        remote = self._made_remote()
        return self._codec.decode(call) if remote is None else remote.decode(call, call.go_on)

    def write(self, call: LargeCall, decoded: Decoded, outputs: Outputs) -> Answer:
        """Return the answer; raises as `read` does."""
        remote = self._made_remote()
        if remote is None or not remote.is_for(decoded, outputs):
            return self._codec.encode(call, decoded, outputs)
        return remote.encode(call, decoded, outputs, call.go_on)

    def _made_remote(self) -> "RemoteCodec | None":
        """Return the other codec; what makes it loads here, with the first large request. Two threads may make one each."""
        if self._remote is None and self._make_remote is not None:
            self._remote = self._make_remote()
        return self._remote
