"""Whether a request is traced, and under which ids: W3C Trace Context, and the samplers of OpenTelemetry.

Most requests are not traced. For them the whole work is one look-up of the header `traceparent` and, where it is there,
a look at the two characters of its flags.
"""

import random
import re
from collections.abc import Mapping
from typing import NamedTuple

from batchproof.service.runtime.tracing.variables import Headers, Sampler

PARENT_HEADER, STATE_HEADER = b"traceparent", b"tracestate"
PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
LAST_OF_FLAGS = slice(54, 55)  # in a traceparent: its lowest bit says whether the parent is sampled
ODD = b"13579bdf"
MOST_STATE_BYTES = 512  # of tracestate; a longer one is dropped, as the standard allows


class Parent(NamedTuple):
    """The caller's span."""

    trace_id: int  # 128 bits, not 0
    span_id: int  # 64 bits, not 0
    is_sampled: bool


class TraceContext(NamedTuple):
    """The ids of a traced request."""

    trace_id: int
    span_id: int  # of the server's span
    parent_id: int = 0  # of the caller's span; 0 where the trace begins here
    state: str = ""  # tracestate as it came

    @property
    def ids(self) -> dict[str, str]:
        """Return the ids as logs and exemplars name them."""
        return {"trace_id": f"{self.trace_id:032x}", "span_id": f"{self.span_id:016x}"}


def parent_of(header: bytes | None) -> Parent | None:
    """Return what a traceparent says; None for none and for one that is not valid."""
    parts = PARENT.fullmatch(header) if header is not None else None
    if parts is None:
        return None
    version, trace_id, span_id, flags, further = parts.groups()
    if version == b"ff" or (version == b"00" and further is not None):
        return None
    parent = Parent(int(trace_id, 16), int(span_id, 16), bool(int(flags, 16) & 1))
    return parent if parent.trace_id and parent.span_id else None


def is_sampled(header: bytes | None) -> bool:
    """Return whether a traceparent, if it is valid, says that the caller's span is sampled: a look at its flags alone."""
    return header is not None and header[LAST_OF_FLAGS] in ODD


def new_span_id() -> int:
    """Return a random id that is not 0."""
    return random.getrandbits(64) or 1


def new_trace_id() -> int:
    """Return a random id that is not 0."""
    return random.getrandbits(128) or 1


class Sampling:
    """Decides for each request whether it is traced."""

    def __init__(self, sampler: Sampler) -> None:
        """Follow the parent as `sampler` says, and trace its share of the requests that have none."""
        self._follows_parent = sampler.follows_parent
        self._reads_parent = sampler.reads_parent
        self._bound = round(sampler.share * (1 << 64))  # a trace is chosen by the lower 64 bits of its id

    @property
    def follows_header(self) -> bool:
        """Return whether only requests can be traced whose `traceparent` says that they are sampled."""
        return not self._bound

    def context_of(self, special: Mapping[bytes, bytes], headers: Headers) -> TraceContext | None:
        """Return the context of a request, None for one that is not traced.

        `special` has its header `traceparent` if there is one; `headers` are all of them, with names in lower case.
        """
        header = special.get(PARENT_HEADER)
        if not self._bound and not is_sampled(header):
            return None
        parent = parent_of(header) if self._reads_parent else None
        if parent is not None and sum(name == PARENT_HEADER for name, _ in headers) > 1:
            parent = None  # which of them is right is not known
        if parent is None:
            trace_id = new_trace_id()
            return TraceContext(trace_id, new_span_id()) if self._is_chosen(trace_id) else None
        if not (parent.is_sampled if self._follows_parent else self._is_chosen(parent.trace_id)):
            return None
        return TraceContext(parent.trace_id, new_span_id(), parent.span_id, _state(headers))

    def _is_chosen(self, trace_id: int) -> bool:
        return trace_id & 0xFFFF_FFFF_FFFF_FFFF < self._bound


def _state(headers: Headers) -> str:
    """Return tracestate, whose lists are joined where there are several."""
    value = b",".join(value for name, value in headers if name == STATE_HEADER)
    return value.decode("ascii") if value.isascii() and len(value) <= MOST_STATE_BYTES else ""
