"""Which names a request may call this service by.

A web page can give its own name the address of a service on the visitor's machine (DNS rebinding) and then call it as if
it were its own origin. The Host header still has the page's name, so a service that listens on the loopback answers only
to names of the loopback. Elsewhere every name is accepted unless `allowed_hosts` lists some.
"""

from batchproof.service.configuration.settings import Settings
from batchproof.service.errors import ServiceError
from batchproof.service.protocols.head import RequestHead
from batchproof.service.protocols.sender import HOST
from batchproof.service.server.serving.gate import Page, RpcMethod, Target
from batchproof.service.server.sockets.listening import LOOPBACK, is_loopback


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
        for sent, value in head.headers:  # each of them, should there be several
            if sent == b"host" and value and not self._knows(value) and not (forwarded and _is_own_address(value)):
                return _unknown(value.decode("latin-1"))
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
