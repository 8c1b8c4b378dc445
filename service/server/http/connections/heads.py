"""Heads of requests in their rarer forms: targets that name a host, and wishes for another protocol."""

from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import unquote

import httptools

from batchproof.service.server.serving.gate import Page

Headers = list[tuple[bytes, bytes]]


class Target(NamedTuple):
    """What a request asks for: a percent-decoded path, empty where it is no URL in ASCII, and a query.

    A whole URL has a host, and `short` is the same without it.
    """

    path: str
    query: bytes = b""
    host: bytes = b""
    short: bytes = b""


def read_target(target: bytes, method: str) -> Target:
    """Read the target of a request line: a path, `*` or a whole URL, which stands for `/` or `*` where it has no path."""
    try:
        parsed: Any = httptools.parse_url(target)  # whose parts are None where they are not there
    except httptools.HttpParserInvalidURLError:
        return Target("")
    host = b""
    if parsed.host:
        name = b"[%b]" % parsed.host if b":" in parsed.host else parsed.host
        host = name if parsed.port is None else b"%b:%d" % (name, parsed.port)
    path = parsed.path or (b"" if not host else b"*" if method == "OPTIONS" and not parsed.query else b"/")
    short = path if parsed.query is None else b"%b?%b" % (path, parsed.query)
    return Target(unquote(path.decode("ascii")) if path.isascii() else "", parsed.query or b"", host, short)


def name_host(headers: Headers, host: bytes) -> None:
    """Put the host that the target names in the place of every Host (RFC 9112, 3.2.2)."""
    headers[:] = [(b"host", host), *(header for header in headers if header[0] != b"host")]


def default_headers_of(target: object, default_headers: Headers) -> Headers:
    """Return the headers that every answer of this target has: a file of the pages says itself how long caches may keep it."""
    if isinstance(target, Page) and target.kind == "asset":
        return [header for header in default_headers if header[0] != b"cache-control"]
    return default_headers


def without_upgrade(method: bytes, target: bytes, version: str, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the head of the same request without its wish for another protocol, such as h2c or WebSocket.

    None is spoken here, and a server ignores an upgrade that it does not support (RFC 9110, 7.8). But httptools ends its work
    behind such a head and reads no body, so another parser has to read the request again. Names of headers are in lower case.
    """
    lines = [b"%b: %b" % (name, value) for name, value in headers if name != b"upgrade"]
    return b"\r\n".join([b"%b %b HTTP/%b" % (method, target, version.encode()), *lines, b"", b""])
