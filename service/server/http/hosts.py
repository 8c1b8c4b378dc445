"""Which names a request may call this service by.

A web page can give its own name the address of a service on the visitor's machine (DNS rebinding) and then call it as if
it were its own origin. The Host header still has the page's name, so a service that listens on the loopback answers only
to names of the loopback. Elsewhere every name is accepted unless `allowed_hosts` lists some.

Before that, `host_fault` says which requests HTTP itself forbids to answer: their Host is absent, there twice or malformed, and
a proxy in front may have read another one than the service would.
"""

import re

from batchproof.service.configuration.address import LOOPBACK
from batchproof.service.configuration.settings import Settings
from batchproof.service.errors import ServiceError
from batchproof.service.protocols.head import RequestHead
from batchproof.service.protocols.interface import Headers
from batchproof.service.protocols.sender import HOST
from batchproof.service.server.serving.gate import Page, RpcMethod, Target
from batchproof.service.server.sockets.listening import is_loopback

VALID = re.compile(
    rb"(?:\[[0-9A-Za-z:.%_~-]+\]|[0-9A-Za-z._~!$&'()*+,;=%-]*)(?::[0-9]*)?"
)  # RFC 3986, 3.2.2; it may be empty


def host_fault(headers: Headers, http_version: str) -> str | None:
    """Return what is wrong with the Host of a request, for a 400 (RFC 9112, 3.2); HTTP/1.0 may leave it out."""
    hosts = [value for name, value in headers if name == b"host"]
    if not hosts:
        return None if http_version == "1.0" else "HTTP/1.1 requires a Host header, such as Host: localhost"
    if len(hosts) > 1:
        return f"it has {len(hosts)} Host headers, but must have one"
    if VALID.fullmatch(hosts[0]) is None:
        return "its Host header must be a name or an address, with or without a port, such as Host: localhost:8000"
    return None


class Hosts:
    """The names that requests may use."""

    def __init__(self, settings: Settings) -> None:
        """Allow the names of the settings; `is_explicit` says that they come from there."""
        self.is_explicit = bool(settings.allowed_hosts)
        self._names = frozenset(name.lower() for name in settings.allowed_hosts if not name.startswith("*"))
        self._endings = tuple(name[1:].lower() for name in settings.allowed_hosts if name.startswith("*."))
        self._is_open = "*" in settings.allowed_hosts
        if not self.is_explicit:
            self._is_open = not is_loopback(settings.host)
            self._names = frozenset({*LOOPBACK, settings.host.lower()})

    def rule(self, head: RequestHead, target: Target) -> ServiceError | None:
        """Refuse, with 421, a Host that is not one of them; HTTP/1.0 may name none, and gRPC has none.

        Health checks pass: load balancers name whatever they like, and the answer tells no secret.
        """
        if self._is_open or isinstance(target, RpcMethod) or (isinstance(target, Page) and target.kind == "health"):
            return None
        forwarded = head.forwarded.host
        if forwarded and not self._knows(forwarded.encode()):
            return _unknown(forwarded)
        host = head.special.get(b"host")
        if host and not self._knows(host) and not (forwarded and _is_own_address(host)):
            return _unknown(host.decode("latin-1"))
        return None

    def _knows(self, host: bytes) -> bool:
        parts = HOST.fullmatch(host.decode("latin-1").lower())
        name = (parts[1] or parts[2]).rstrip(".") if parts else ""
        return name in self._names or name.endswith(self._endings or "\n")


def _is_own_address(host: bytes) -> bool:
    """Return whether a proxy may name this service so: by an address or localhost, which no web page can have for a name."""
    parts = HOST.fullmatch(host.decode("latin-1").lower())
    name = (parts[1] or parts[2]) if parts else ""
    return bool(name) and (name in LOOPBACK or ":" in name or name.replace(".", "").isdigit())


def _unknown(host: str) -> ServiceError:
    message = f"This service does not answer to the host {host!r:.100}; the setting allowed_hosts can allow it."
    return ServiceError(421, "unknown_host", message)
