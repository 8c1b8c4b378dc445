"""The other end of gRPC calls: TLS, the address, and the names in a client's certificate."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import grpc

from batchproof.service.access.patterns import CertifiedName, Kind
from batchproof.service.configuration.settings import Settings
from batchproof.service.protocols.sender import Proxies, Sender
from batchproof.service.server.sockets.tls import Tls

KINDS: Mapping[str, Kind] = {"peer_dns": "host", "peer_email": "mail", "peer_uri": "uri"}  # as gRPC spells them


class RpcSenders:
    """Makes the `Sender` of each call."""

    def __init__(self, settings: Settings, *, has_certificates: bool, is_observed: bool) -> None:
        """Trust the proxies of the settings; where calls are logged or traced, each has its caller's address."""
        self._proxies = Proxies(settings.trusted_proxies)
        self._is_observed = is_observed
        self._has_certificates = has_certificates

    def of(self, context: Any) -> Sender | None:
        """Return the other end of a call; None where nothing about it matters."""
        names = names_of(context.auth_context()) if self._has_certificates else ()
        if not names and not self._is_observed:
            return None
        address = address_of(context.peer())
        return Sender(address, names, self._proxies if self._proxies.trusts(address) else None)


def needs_certificate(settings: Settings) -> bool:
    """Return whether calls need a client certificate: gRPC for Python can require one or none, and cannot ask for one."""
    is_required = settings.tls_client == "require" or settings.grpc_client_certificates
    return bool(settings.tls_client_ca) and is_required


def credentials(tls: Tls, *, needs_client: bool) -> Any:
    """Return what encrypts calls: a new connection gets the certificate that HTTP has now."""
    last = tls.pem

    def configuration(files: tuple[bytes, bytes, bytes | None]) -> Any:
        key, certificate, authorities = files
        return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=authorities)

    def changed() -> Any:
        nonlocal last
        if tls.pem == last:
            return None
        last = tls.pem
        return configuration(last)

    return grpc.dynamic_ssl_server_credentials(configuration(last), changed, require_client_authentication=needs_client)


def names_of(found: Mapping[str, Sequence[bytes]]) -> tuple[CertifiedName, ...]:
    """Return the names in a caller's certificate, as gRPC gives them: those that HTTP knows, of a subject its first CN."""
    alternatives = [
        CertifiedName(kind, text) for name, kind in KINDS.items() for text in map(_text, found.get(name, ())) if text
    ]
    subject = [CertifiedName("subject", f"CN={text}") for text in map(_text, found.get("x509_common_name", ())) if text]
    return (*alternatives, *subject)


def address_of(peer: str) -> str:
    """Return the address in gRPC's name of a caller, such as ipv4:127.0.0.1:4711 or ipv6:%5B::1%5D:4711."""
    family, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if family in ("ipv4", "ipv6") else ""


def _text(name: bytes) -> str:
    """Return a name in a certificate; nothing where it is no text, so that it fits no pattern but `*`."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        return ""
