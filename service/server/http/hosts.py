"""Which names a request may call this service by.

A web page can give its own name the address of a service on the visitor's machine (DNS rebinding) and then call it as if
it were its own origin. The Host header still has the page's name, so a service that listens on the loopback answers only
to names of the loopback. Elsewhere every name is accepted unless `allowed_hosts` lists some.
"""

from batchproof.service.errors import ServiceError
from batchproof.service.protocols.head import RequestHead
from batchproof.service.server.gate import Page, RpcMethod, Target
from batchproof.service.settings import Settings

LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Hosts:
    """The names that requests may use."""

    def __init__(self, settings: Settings) -> None:
        """Allow the names of the settings; `is_explicit` says that they come from there."""
        self.is_explicit = bool(settings.allowed_hosts)
        self._names = frozenset(name.lower() for name in settings.allowed_hosts if not name.startswith("*"))
        self._endings = tuple(name[1:].lower() for name in settings.allowed_hosts if name.startswith("*."))
        self._is_open = "*" in settings.allowed_hosts
        if not self.is_explicit:
            self._is_open = settings.host not in LOOPBACK
            self._names = frozenset(LOOPBACK)

    def rule(self, head: RequestHead, target: Target) -> ServiceError | None:
        """Refuse, with 421, a Host that is not one of them; HTTP/1.0 may name none, and gRPC has none.

        Health checks pass: load balancers name whatever they like, and the answer tells no secret.
        """
        host = head.special.get(b"host")
        if self._is_open or not host or isinstance(target, RpcMethod):
            return None
        if isinstance(target, Page) and target.kind == "health":
            return None
        name = _without_port(host.decode("latin-1").lower())
        if name in self._names or name.endswith(self._endings or "\n"):
            return None
        message = f"This service does not answer to the host {name!r:.100}; the setting allowed_hosts can allow it."
        return ServiceError(421, "unknown_host", message)


def _without_port(host: str) -> str:
    """Return the name or address of `host:port`, `[address]:port` or either alone; a dot at its end is left out."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".")
