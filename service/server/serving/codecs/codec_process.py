"""A process that decodes bodies and encodes answers, one after another, with the codecs that the service names."""

import gc
import pickle
import socket
import traceback
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from batchproof.service.errors import ServiceError
from batchproof.service.features.arrays import Arrays
from batchproof.service.protocols.interface import Answer, Call, Codec, Decoded
from batchproof.service.runtime.processes import refusals
from batchproof.service.runtime.processes.confinement import allow_cpu
from batchproof.service.runtime.processes.frames import Frames, PeerEndedError, send
from batchproof.service.server.serving.codecs.messages import (
    ANSWER,
    BYTES,
    CODEC,
    DECODE,
    DECODED,
    FAILED,
    REFUSAL,
    AnswerHead,
    DecodedRows,
    Encoding,
    Head,
    raw,
)
from batchproof.service.server.serving.codecs.refusals import out_of_memory

JOB_CPU_S = 30  # processor time for one body, or one answer
MOST_BYTES = 1 << 40  # of a frame: the service, which is trusted, sends it
pack = msgspec.msgpack.encode


def warm_up() -> None:
    """Load what codecs are made of, so that it is there before processes are forked."""
    import batchproof.service.protocols.cloud.explain
    import batchproof.service.protocols.native.protocol
    import batchproof.service.protocols.oip.protocol  # noqa: F401


def serve(connection: socket.socket) -> None:
    """Do the jobs that come over `connection`, until one is refused or nothing more comes.

    A job leaves no circles that hold its body, or the process ends: looking for them takes a third of the time.
    """
    gc.disable()
    jobs = Jobs(connection)
    while jobs.do_next():
        pass


class Jobs:
    """The codecs that are known, and the connection over which jobs for them come."""

    def __init__(self, connection: socket.socket) -> None:
        """Know none."""
        self._connection = connection
        self._frames = Frames(connection, MOST_BYTES)
        self._codecs: dict[int, Codec] = {}

    def do_next(self) -> bool:
        """Do one job; returns whether it was done to its end."""
        kind, payload = self._frames.receive()
        while kind == CODEC:
            number, make = pickle.loads(payload)  # noqa: S301 - the service, which started this process, wrote it
            self._codecs[number] = make()
            kind, payload = self._frames.receive()
        allow_cpu(JOB_CPU_S)
        error: ServiceError
        try:
            self._decode(payload) if kind == DECODE else self._encode(payload)
        except (ConnectionError, PeerEndedError):
            raise
        except ServiceError as refusal:
            error = refusal
        except MemoryError:
            error = out_of_memory()
        except Exception:  # noqa: BLE001 - the service logs and counts it, as if it had been raised there
            send(self._connection, FAILED, traceback.format_exc().encode(errors="replace"))
            return False
        else:
            return True
        send(self._connection, REFUSAL, refusals.packed(error))
        return False

    def _decode(self, payload: bytes) -> None:
        head = msgspec.msgpack.decode(payload, type=Head)
        codec = self._codecs[head.codec]
        decoded = codec.decode(Call(self._bytes(), head.headers, head.request_id))
        needs_inputs: Callable[[Decoded], bool] = getattr(codec, "needs_inputs", lambda _: False)
        numeric, categorical = decoded.arrays
        found = DecodedRows(
            decoded.rows,
            decoded.added,
            None if decoded.places is None else list(decoded.places),
            pack(decoded.note),
            needs_inputs(decoded),
            None if numeric is None else numeric.shape,
            None if categorical is None else categorical.shape,
        )
        send(self._connection, DECODED, pack(found))
        for array in decoded.arrays:
            if array is not None:
                send(self._connection, BYTES, raw(array))

    def _encode(self, payload: bytes) -> None:
        job = msgspec.msgpack.decode(payload, type=Encoding)
        codec = self._codecs[job.head.codec]
        outputs = {output.name: self._array(output.dtype, output.shape) for output in job.outputs}
        numeric = None if job.numeric is None else self._array("<f8", job.numeric)
        categorical = None if job.categorical is None else self._array("<i8", job.categorical)
        note = msgspec.msgpack.decode(job.note, type=getattr(codec, "note_type", None))
        decoded = Decoded(Arrays(numeric, categorical), job.rows, note, job.added)
        call = Call(b"", job.head.headers, job.head.request_id)
        self._answer(codec.encode(call, decoded, outputs))

    def _answer(self, answer: Answer) -> None:
        send(self._connection, ANSWER, pack(AnswerHead(answer.status, tuple(answer.headers))))
        send(self._connection, BYTES, answer.body)

    def _bytes(self) -> bytes:
        kind, payload = self._frames.receive()
        if kind != BYTES:
            raise PeerEndedError
        return payload

    def _array(self, dtype: str, shape: Sequence[int]) -> np.ndarray:
        return np.frombuffer(self._bytes(), dtype).reshape(shape)
