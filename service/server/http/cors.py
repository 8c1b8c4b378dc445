"""Browsers: a page of another origin may not call unless a setting allows its origin.

Inference clients often send no Content-Type, so a content type cannot guard against forged requests of foreign pages;
the Origin header, which browsers set and pages cannot, does.
"""

from collections.abc import Sequence

from batchproof.service.errors import ServiceError
from batchproof.service.protocols.interface import Answer, Headers


class Origins:
    """Which origins may call beside the service's own."""

    def __init__(self, allowed: Sequence[str]) -> None:
        """Allow `allowed`, such as https://example.org; "*" allows all."""
        self._allowed = frozenset(origin.encode().lower().rstrip(b"/") for origin in allowed)

    def check(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        """Return the headers that let an allowed foreign page read the answer; raises 403 for other foreign pages."""
        origin = host = None
        for name, value in headers:
            if name == b"origin":
                origin = value.lower()
            elif name == b"host":
                host = value.lower()
        if origin is None or origin.partition(b"://")[2] == host:
            return []
        if origin in self._allowed or b"*" in self._allowed:
            return [(b"access-control-allow-origin", origin), (b"vary", b"origin")]
        raise ServiceError(403, "foreign_origin", "Pages of this origin may not call; allowed_origins can allow it.")

    def preflight(self) -> Answer:
        """Answer a browser that asks what it may send."""
        headers = (
            (b"access-control-allow-methods", b"GET, POST"),
            (b"access-control-allow-headers", b"content-type, x-request-id, x-request-timeout-s"),
            (b"access-control-max-age", b"600"),
        )
        return Answer(204, headers, b"")
