"""What the service and a process with its codecs tell each other: kinds of frames, and what stands in each.

The service pickles a codec's maker for the process, never the other way round: what comes back has read a stranger's
bytes, so it is of the types below, within their bounds, or it is the end of the process.
"""

from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

CODEC, DECODE, ENCODE, BYTES = b"C", b"D", b"E", b"B"  # kinds of frames; BYTES follow as the one before says
DECODED, ANSWER, REFUSAL, FAILED = b"d", b"a", b"r", b"f"

Shape = tuple[int, int]
Count = Annotated[int, Meta(ge=0)]
Place = Annotated[int, Meta(ge=0, lt=1 << 31)]  # the journal has it as int32


class Head(msgspec.Struct, array_like=True, frozen=True):
    """What goes with every job: for which codec, and of which request. The body follows a DECODE."""

    codec: int
    headers: list[tuple[bytes, bytes]]
    request_id: str


class Output(msgspec.Struct, array_like=True, frozen=True):
    """One of the graph's outputs, whose bytes follow."""

    name: str
    dtype: str
    shape: list[int]


class Encoding(msgspec.Struct, array_like=True, frozen=True):
    """What is to be written: the request as it was decoded, and which outputs follow, then the inputs."""

    head: Head
    rows: int
    added: int
    note: bytes
    outputs: list[Output]
    numeric: Shape | None  # the inputs, only where the answer needs them
    categorical: Shape | None


class DecodedRows(msgspec.Struct, array_like=True, frozen=True):
    """Rows whose arrays follow: float64, then int64."""

    rows: Count
    added: Count
    places: list[Place] | None
    note: bytes  # for the process that writes the answer: nothing here reads it
    needs_inputs: bool  # whether the answer does
    numeric: Shape | None
    categorical: Shape | None


class AnswerHead(msgspec.Struct, array_like=True, frozen=True):
    """An answer whose body follows."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]


def raw(array: np.ndarray) -> memoryview:
    """Return the bytes of an array, row by row, without a copy where they lie so."""
    view: Any = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return memoryview(view)
