"""Which names a request may call this service by.

A web page can give its own name the address of a service on the visitor's machine (DNS rebinding) and then call it as if
it were its own origin. The Host header still has the page's name, so a service that listens on the loopback answers only
to names of the loopback. Elsewhere every name is accepted unless `allowed_hosts` lists some.
"""

import re

from batchproof.service.errors import ServiceError
from batchproof.service.protocols.head import RequestHead
from batchproof.service.server.gate import Page, RpcMethod, Target
from batchproof.service.server.listening import LOOPBACK, is_loopback
from batchproof.service.settings import Settings

HOST = re.compile(r"(?:\[([0-9a-f:.%]+)\]|([^:\[\]/@\s]+))(?::[0-9]{0,5})?")


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
        for sent, value in head.headers:  # each of them, should there be several
            if sent == b"host" and value and not self._knows(value):
                shown = value.decode("latin-1")
                message = (
                    f"This service does not answer to the host {shown!r:.100}; the setting allowed_hosts can allow it."
                )
                return ServiceError(421, "unknown_host", message)
        return None

    def _knows(self, host: bytes) -> bool:
        parts = HOST.fullmatch(host.decode("latin-1").lower())
        name = (parts[1] or parts[2]).rstrip(".") if parts else ""
        return name in self._names or name.endswith(self._endings or "\n")
