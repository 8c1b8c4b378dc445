"""Browsers: a page of another origin may not call unless a setting allows its origin.

Inference clients often send no Content-Type, so a content type cannot guard against forged requests of foreign pages;
the Origin header, which browsers set and pages cannot, does.
"""

from collections.abc import Sequence

from batchproof.service.errors import ServiceError
from batchproof.service.protocols.head import RequestHead
from batchproof.service.protocols.interface import Answer

PREFLIGHT = Answer(
    204,
    (
        (b"access-control-allow-methods", b"GET, POST"),
        (b"access-control-allow-headers", b"authorization, content-type, x-api-key, x-request-id, x-request-timeout-s"),
        (b"access-control-max-age", b"600"),
    ),
    b"",
)


class Origins:
    """Which origins may call beside the service's own."""

    def __init__(self, allowed: Sequence[str]) -> None:
        """Allow `allowed`, such as https://example.org; "*" allows all."""
        self._allowed = frozenset(origin.encode().lower().rstrip(b"/") for origin in allowed)

    def rule(self, head: RequestHead, _target: object) -> ServiceError | None:
        """Refuse, with 403, a page of another origin that is not allowed."""
        if b"origin" not in head.special or self._is_own(head) or self.headers(head):
            return None
        return ServiceError(
            403,
            "foreign_origin",
            "Pages of this origin may not call this service; the setting allowed_origins can allow them.",
        )

    def headers(self, head: RequestHead) -> list[tuple[bytes, bytes]]:
        """Return the headers that let a page of an allowed foreign origin read the answer; none for other callers."""
        origin = head.special.get(b"origin")
        if origin is None or self._is_own(head):
            return []
        origin = origin.lower()
        if origin not in self._allowed and b"*" not in self._allowed:
            return []
        return [(b"access-control-allow-origin", origin), (b"vary", b"origin")]

    @staticmethod
    def _is_own(head: RequestHead) -> bool:
        origin = head.special[b"origin"].lower().partition(b"://")[2]
        host = head.forwarded.host.encode() or head.special.get(b"host", b"").lower()
        return bool(host) and origin == host
