"""The head of a request, parsed once: what the gate decides on, and all that endpoints ask of headers."""

import itertools
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from batchproof.service.errors import ServiceError
from batchproof.service.protocols.compression import ENCODING_HEADER, header
from batchproof.service.protocols.interface import Headers
from batchproof.service.protocols.sender import NOTHING_FORWARDED, Forwarded, Sender
from batchproof.service.runtime.tracing.context import PARENT_HEADER, parent_of
from batchproof.service.runtime.tracing.observation import Observation

if TYPE_CHECKING:
    from batchproof.service.access.grant import Grant

REQUEST_ID = re.compile(rb"[\x21\x23-\x5b\x5d-\x7e]{1,128}")  # printable, without space, quote and backslash
ID_HEADER = b"x-request-id"
TIMEOUT_HEADER = b"x-request-timeout-s"
LENGTH_HEADER = b"content-length"
LEAST_TIMEOUT_S = 0.001
SHORT_BODY_BYTES = 65536  # a body of this length is there as soon as its head, or nearly so
LONG_BODY_DIGITS = 6  # of the Content-Length of a body that is not plain
PLAIN_TYPES = frozenset({None, b"application/json", b"*/*"})  # of Content-Type and Accept: no table
UNUSUAL = frozenset({ENCODING_HEADER, b"expect", b"origin", b"upgrade"})
HEAD_KEY = "batchproof.head"  # where an ASGI scope holds the head of its request

_prefix = os.urandom(4).hex()
_numbers = itertools.count(1)


class RequestHead:
    """What is known of a request before its body is read, over HTTP and gRPC alike."""

    __slots__ = (
        "grant",
        "headers",
        "is_plain",
        "method",
        "observation",
        "path",
        "query",
        "request_id",
        "sender",
        "special",
        "version",
    )

    observation: Observation | None  # only where requests are traced or logged; others cost nothing for it
    version: str  # of HTTP, only where it is not 1.1

    def __init__(self, method: str, path: str, query: bytes, headers: Headers) -> None:
        """Read the headers that mean something to every request.

        `path` is percent-decoded and ends before the query; names of headers are in lower case. The id is the caller's
        where it is printable, else a new one.
        """
        self.method = method
        self.path = path
        self.query = query
        self.sender: Sender | None = None  # the other end of the connection, where something about it matters
        self.grant: Grant | None = None  # what the caller may do; the gate finds out
        self.headers = headers
        special = self.special = dict(headers)  # the last value of each header
        self.request_id = _id_of(special)
        get = special.get
        self.is_plain = (  # JSON or no body, no query, nothing unusual: most requests need no closer look
            get(b"content-type") in PLAIN_TYPES
            and get(b"accept") in PLAIN_TYPES
            and not query
            and UNUSUAL.isdisjoint(special)
            and len(get(LENGTH_HEADER, b"")) < LONG_BODY_DIGITS
        )

    def again(self, length: bytes) -> "RequestHead":
        """Return the head of a later request that differs in nothing but its Content-Length; the gate has not seen it yet."""
        head = RequestHead.__new__(RequestHead)  # each attribute is known already
        special = head.special = self.special
        head.headers = self.headers
        if special[LENGTH_HEADER] != length:
            head.headers = [(name, length if name == LENGTH_HEADER else value) for name, value in self.headers]
            head.special = {**special, LENGTH_HEADER: length}
        head.method, head.path, head.query = self.method, self.path, self.query
        head.sender, head.grant, head.is_plain = self.sender, None, self.is_plain
        head.request_id = _id_of(special)
        return head

    @property
    def forwarded(self) -> Forwarded:
        """Return what trusted proxies say of the caller: it is read anew each time."""
        return NOTHING_FORWARDED if self.sender is None else self.sender.forwarded(self.headers)

    @property
    def log_fields(self) -> dict[str, Any]:
        """Return who called, as a line of the log says it: the address and the owner of the key, as far as they are known."""
        address = "" if self.sender is None else self.sender.client(self.headers)
        named = {} if self.grant is None else {"caller": self.grant.name}
        return {"client": address, **named} if address else named

    @property
    def seen(self) -> Observation | None:
        """Return what is recorded of the request; None where it is neither traced nor logged."""
        return getattr(self, "observation", None)

    @property
    def ids(self) -> dict[str, str]:
        """Return the request's id and that of its trace, its caller's where none is recorded here, for the log."""
        seen = self.seen
        if seen is not None and seen.context is not None:
            return {"request_id": self.request_id, **seen.context.ids}
        parent = parent_of(self.special.get(PARENT_HEADER))
        return {"request_id": self.request_id} | ({} if parent is None else {"trace_id": f"{parent.trace_id:032x}"})

    @property
    def http_version(self) -> str:
        """Return 1.1 or 1.0."""
        return getattr(self, "version", "1.1")

    @property
    def content_length(self) -> int:
        """Return the length that the body is said to have, in bytes; 0 where none is announced."""
        length = self.special.get(LENGTH_HEADER, b"")
        return int(length) if length.isdigit() else 0

    def header(self, name: bytes) -> bytes | None:
        """Return the first header of this name, which is in lower case."""
        return header(self.headers, name)

    def timeout_s(self, most_s: float) -> float:
        """Return the seconds in which the request must start to run, at most `most_s`; raises 400."""
        given = self.special.get(TIMEOUT_HEADER)
        return most_s if given is None else parse_timeout(given, most_s)

    @property
    def waits_to_continue(self) -> bool:
        """Return whether the caller sends its body only once it was answered with 100."""
        return self.special.get(b"expect", b"").lower() == b"100-continue"

    @property
    def has_short_body(self) -> bool:
        """Return whether the body is absent or short and on its way, so that it can be dropped unread."""
        is_bounded = b"transfer-encoding" not in self.special and not self.waits_to_continue
        return is_bounded and self.content_length <= SHORT_BODY_BYTES


def _id_of(special: Mapping[bytes, bytes]) -> str:
    """Return the caller's id of a request, a new one where it has none or one that cannot be printed."""
    given = special.get(ID_HEADER)
    return given.decode("ascii") if given and REQUEST_ID.fullmatch(given) else f"{_prefix}-{next(_numbers):x}"


def reseed() -> None:
    """Give a forked process request ids of its own."""
    global _prefix  # noqa: PLW0603 - the one piece of state that a fork must not share
    _prefix = os.urandom(4).hex()


def parse_timeout(value: bytes, most_s: float) -> float:
    """Return X-Request-Timeout-S as seconds, at most `most_s`; raises 400."""
    try:
        timeout_s = float(value.replace(b"_", b" "))  # which float passes over between digits
    except ValueError:
        timeout_s = float("nan")
    if not timeout_s >= LEAST_TIMEOUT_S:
        raise ServiceError(
            400, "invalid_timeout", f"X-Request-Timeout-S must be a number of seconds, at least {LEAST_TIMEOUT_S}."
        )
    return min(timeout_s, most_s)
