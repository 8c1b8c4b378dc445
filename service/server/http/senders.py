"""What is known of a connection before its first request: address, certificate, and whether it is a trusted proxy's."""

import asyncio
from typing import Any

from batchproof.service.configuration.settings import Settings
from batchproof.service.protocols.sender import Proxies, Sender
from batchproof.service.server.sockets.tls import names_of


class Senders:
    """Makes the `Sender` of each connection."""

    def __init__(self, settings: Settings, *, is_observed: bool) -> None:
        """Trust the proxies of the settings; where requests are logged or traced, each has its caller's address."""
        self._proxies = Proxies(settings.trusted_proxies)
        self._is_observed = is_observed

    def of(self, transport: asyncio.Transport) -> Sender | None:
        """Return the other end of a connection; None where nothing about it matters to any request."""
        return self.at(transport.get_extra_info("peername"), transport.get_extra_info("peercert"))

    def at(self, peer: Any, certificate: Any = None) -> Sender | None:
        """Return the same for an address as sockets and ASGI give it, (host, port, ...)."""
        address = str(peer[0]) if isinstance(peer, tuple | list) and peer else ""
        names = names_of(certificate)
        proxies = self._proxies if self._proxies.trusts(address) else None
        if not names and proxies is None and not self._is_observed:
            return None
        return Sender(address, names, proxies)
