"""What the headers of a request say to every protocol: its id, its deadline, its encoding."""

import itertools
import os
import re
from collections.abc import Mapping

from batchproof.service.errors import ServiceError
from batchproof.service.protocols.compression import ENCODING_HEADER
from batchproof.service.protocols.interface import Headers

REQUEST_ID = re.compile(rb"[\x21\x23-\x5b\x5d-\x7e]{1,128}")  # printable, without space, quote and backslash


ID_HEADER = b"x-request-id"


TIMEOUT_HEADER = b"x-request-timeout-s"


LEAST_TIMEOUT_S = 0.001


SPECIAL = frozenset({ID_HEADER, TIMEOUT_HEADER, ENCODING_HEADER, b"expect", b"origin", b"upgrade"}) | {
    b"accept",
    b"content-length",
    b"content-type",
}


_prefix = os.urandom(4).hex()


_numbers = itertools.count(1)


def special(headers: Headers) -> dict[bytes, bytes]:
    """Return the headers that mean something to every request."""
    return {name: value for name, value in headers if name in SPECIAL}


def request_id_of(found: Mapping[bytes, bytes]) -> str:
    """Return the request's id, taken where it is printable, else made."""
    given = found.get(ID_HEADER)
    if given is not None and REQUEST_ID.fullmatch(given):
        return given.decode("ascii")
    return f"{_prefix}-{next(_numbers):x}"


def identified(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Return the headers with the request's id in them, so that whoever asks later is told the same one."""
    return [*headers, (ID_HEADER, request_id_of(special(headers)).encode())]


def reseed() -> None:
    """Give a forked process request ids of its own."""
    global _prefix  # noqa: PLW0603 - the one piece of state that a fork must not share
    _prefix = os.urandom(4).hex()


def parse_timeout(value: bytes, most_s: float) -> float:
    """Return X-Request-Timeout-S as seconds, at most `most_s`; raises 400."""
    try:
        timeout_s = float(value)
    except ValueError:
        timeout_s = float("nan")
    if not timeout_s >= LEAST_TIMEOUT_S:
        raise ServiceError(400, "invalid_timeout", f"X-Request-Timeout-S takes seconds, from {LEAST_TIMEOUT_S} up.")
    return min(timeout_s, most_s)
