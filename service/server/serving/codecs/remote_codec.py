"""The service's side: bodies go to a process as they are, and arrays or a refusal come back; answers likewise."""

import itertools
import pickle
import re
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np

from batchproof.service.bundle.signature import Signature
from batchproof.service.features.arrays import ArrayBounds, Arrays, Outputs
from batchproof.service.protocols.interface import Answer, Call, Codec, Decoded
from batchproof.service.runtime.processes import process_pool, refusals
from batchproof.service.runtime.processes.frames import Frames, PeerEndedError, send
from batchproof.service.runtime.processes.process_pool import Process, ProcessEndedError, ProcessPool
from batchproof.service.server.serving.codecs.messages import (
    ANSWER,
    BYTES,
    CODEC,
    DECODE,
    DECODED,
    ENCODE,
    FAILED,
    REFUSAL,
    AnswerHead,
    DecodedRows,
    Encoding,
    Head,
    Output,
    Shape,
    raw,
)
from batchproof.service.server.serving.codecs.refusals import broken_body, of_ended

MODULE = "batchproof.service.server.serving.codecs.codec_process"  # of the other side
MOST_CODECS = 64  # that one process knows
THREAD_NUMBERS = 1 << 16  # of outputs that are written in this process: a few milliseconds in which nobody is answered
NUMBER_BYTES = 8  # of a value, float64, and of a code, int64
NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # of a header
LINE_END = re.compile(rb"[\r\n\0]")
OWN_HEADERS = frozenset({b"connection", b"content-length", b"transfer-encoding"})  # this process writes them

GoOn = Callable[[], object]  # asked now and then: raises where nobody waits for the answer any more
Found = TypeVar("Found")
_numbers = itertools.count(1)


class RemoteNote(NamedTuple):
    """What `encode` must know of a request that was decoded in another process; this one does not look into it."""

    packed: bytes
    needs_inputs: bool


class CodecFailedError(Exception):
    """A codec failed in another process as nothing foresees; the text is its traceback, or how the process ended."""


class RemoteCodec:
    """The codec of one model in one protocol, in other processes. All methods are called in threads, and wait."""

    def __init__(
        self, pool: ProcessPool, codec: Codec, make: Callable[[], Codec], signature: Signature, route: str
    ) -> None:
        """Stand for `codec`, which a process makes by calling `make`; what is sent back must fit `signature`."""
        self.pool = pool
        self._codec = codec
        self._make = make
        self._number = next(_numbers)
        self._route = route
        self._bounds = ArrayBounds.of(signature)

    @cached_property
    def _maker(self) -> bytes:
        return pickle.dumps((self._number, self._make))

    def decode(self, call: Call, go_on: GoOn) -> Decoded:
        """Return a request's rows; raises ServiceError, what `go_on` raises, and CodecFailedError."""
        try:
            return self.pool.run(partial(self._decoded, call, go_on))
        except ProcessEndedError as error:
            raise (of_ended(error, self._route, call.request_id) or broken_body()) from error

    def encode(self, call: Call, decoded: Decoded, outputs: Outputs, go_on: GoOn) -> Answer:
        """Return an answer, of a request that was decoded here or there; raises as `decode` does."""
        try:
            return self.pool.run(partial(self._answer, call, decoded, outputs, go_on))
        except ProcessEndedError as error:  # the rows were good: a crash is no fault of the caller's
            refusal = of_ended(error, self._route, call.request_id)
            raise (refusal or CodecFailedError(f"while an answer was written: {error}")) from error

    @staticmethod
    def is_for(decoded: Decoded, outputs: Outputs) -> bool:
        """Return whether an answer is to be written in another process."""
        return type(decoded.note) is RemoteNote or sum([values.size for values in outputs.values()]) > THREAD_NUMBERS

    def _decoded(self, call: Call, go_on: GoOn, process: Process) -> Decoded:
        frames = self._begun(process, go_on)
        send(process.connection, DECODE, msgspec.msgpack.encode(self._head(call)), go_on=go_on)
        send(process.connection, BYTES, call.body, go_on=go_on)
        found = _result(frames, DECODED, DecodedRows, go_on)
        self._check(found)
        numeric = self._received(frames, found, 0, go_on)
        categorical = self._received(frames, found, 1, go_on)
        if not self._bounds.admits(categorical):
            raise PeerEndedError
        self._finished(process)
        note = None if found.note == NOTHING else RemoteNote(found.note, found.needs_inputs)
        return Decoded(Arrays(numeric, categorical), found.rows, note, found.added, found.places)

    def _check(self, found: DecodedRows) -> None:
        """Raise PeerEndedError for rows that contradict themselves, or that no process has the memory for."""
        own = found.rows - found.added
        if own < 0 or (found.places is not None and len(found.places) != own):
            raise PeerEndedError
        if found.rows * sum(self._bounds.widths) * NUMBER_BYTES > self.pool.memory_bytes:
            raise PeerEndedError

    def _received(self, frames: Frames, found: DecodedRows, place: int, go_on: GoOn) -> np.ndarray | None:
        """Return the array that follows, [rows, features of its kind]; None where the model has none of that kind."""
        shape, width = (found.numeric, found.categorical)[place], self._bounds.widths[place]
        if (shape is not None and tuple(shape) != (found.rows, width)) or (shape is None) != (width == 0):
            raise PeerEndedError
        if shape is None:
            return None
        array = np.empty(shape, ("<f8", "<i8")[place])
        frames.fill(BYTES, raw(array), go_on)
        return array

    def _answer(self, call: Call, decoded: Decoded, outputs: Outputs, go_on: GoOn, process: Process) -> Answer:
        frames = self._begun(process, go_on)
        note = decoded.note
        if type(note) is not RemoteNote:
            needs_inputs: Callable[[Decoded], bool] = getattr(self._codec, "needs_inputs", lambda _: False)
            note = RemoteNote(msgspec.msgpack.encode(note), needs_inputs(decoded))
        inputs: Sequence[np.ndarray | None] = decoded.arrays if note.needs_inputs else (None, None)
        described = [Output(name, values.dtype.str, list(values.shape)) for name, values in outputs.items()]
        shapes: list[Shape | None] = [None if array is None else array.shape for array in inputs]
        job = Encoding(self._head(call), decoded.rows, decoded.added, note.packed, described, *shapes)
        send(process.connection, ENCODE, msgspec.msgpack.encode(job), go_on=go_on)
        for array in (*outputs.values(), *inputs):
            if array is not None:
                send(process.connection, BYTES, raw(array), go_on=go_on)
        head = _result(frames, ANSWER, AnswerHead, go_on)
        kind, body = frames.receive(go_on)
        if kind != BYTES or not _is_sound(head):
            raise PeerEndedError
        self._finished(process)
        return Answer(head.status, head.headers, body)

    def _begun(self, process: Process, go_on: GoOn) -> Frames:
        """Let the process know the codec; returns the frames that it will send."""
        if self._number not in process.known:
            send(process.connection, CODEC, self._maker, go_on=go_on)
            process.known.add(self._number)
        return Frames(process.connection, self.pool.memory_bytes, process_pool.SILENT_S)

    def _finished(self, process: Process) -> None:
        if len(process.known) < MOST_CODECS:
            process.finished()

    def _head(self, call: Call) -> Head:
        return Head(self._number, list(call.headers), call.request_id)


NOTHING = msgspec.msgpack.encode(None)


def _result(frames: Frames, wanted: bytes, message: type[Found], go_on: GoOn) -> Found:
    """Return what a job gave; raises ServiceError, CodecFailedError and PeerEndedError."""
    kind, payload = frames.receive(go_on)
    if kind == FAILED:
        raise CodecFailedError(payload.decode(errors="replace"))
    try:
        if kind == REFUSAL:
            raise refusals.unpacked(payload)
        if kind == wanted:
            return msgspec.msgpack.decode(payload, type=message)
    except msgspec.DecodeError as error:
        raise PeerEndedError from error
    raise PeerEndedError


def _is_sound(head: AnswerHead) -> bool:
    """Return whether an answer's head is one that a codec may write, whatever its process read."""
    return head.status == 200 and all(
        NAME.fullmatch(name) and name.lower() not in OWN_HEADERS and not LINE_END.search(value)
        for name, value in head.headers
    )
