"""TLS for HTTP and gRPC: TLS 1.2 or later, certificates that change while the service runs, client certificates.

When the files change a new context is made of them: new connections get the new certificate and are checked against the
new authorities, open ones go on with theirs.
"""

import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from batchproof.service.access.patterns import CertifiedName, Kind
from batchproof.service.configuration.settings import Settings
from batchproof.service.errors import SettingError
from batchproof.service.runtime.logs import event

Stamp = tuple[tuple[int, int] | None, ...]
KINDS: Mapping[str, Kind] = {"DNS": "host", "email": "mail", "URI": "uri"}  # as the ssl module spells them


class Tls:
    """The server's side of TLS."""

    def __init__(self, settings: Settings) -> None:
        """Read the files of the settings; raises SettingError."""
        if not settings.tls_key:
            raise SettingError("tls_cert needs tls_key too, the file of its private key.")
        self._cert, self._key = Path(settings.tls_cert), Path(settings.tls_key)
        self._client_ca = Path(settings.tls_client_ca) if settings.tls_client_ca else None
        self._needs_client = settings.tls_client == "require"
        self._refreshing = Lock()  # or what was read first could be put into force last
        self._stamp = self._stamp_now()
        self.pem = self._read()  # what gRPC, which has no context, takes for its next connection
        self._current = self._make()
        self.context = self._make()  # what servers hold; each handshake asks it for the current one
        self.context.sni_callback = self._choose  # called for clients that name no server too

    def refresh(self, *, at_once: bool = False) -> None:
        """Load the files again where they changed; what cannot be loaded is logged and changes nothing. Blocks.

        `at_once`: also where they did not change. Called in any thread.
        """
        with self._refreshing:
            stamp = self._stamp_now()
            if at_once or stamp != self._stamp:
                self._stamp = stamp
                self._load_again()

    def _load_again(self) -> None:
        try:
            pem, self._current = self._read(), self._make()
        except SettingError as error:
            event("tls_not_read", 40, reason=str(error))
            return
        self.pem = pem
        event("tls_read", certificate=str(self._cert))

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """Give a handshake what the files hold now: a context that is in use could only ever trust more authorities."""
        connection.context = self._current

    def _read(self) -> tuple[bytes, bytes, bytes | None]:
        """Return key, certificate and authorities of clients; raises SettingError."""
        authorities = None if self._client_ca is None else _content("tls_client_ca", self._client_ca)
        return _content("tls_key", self._key), _content("tls_cert", self._cert), authorities

    def _make(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.options |= (
            ssl.OP_NO_RENEGOTIATION
        )  # as many handshakes as a caller of TLS 1.2 likes, each of them costly
        try:
            context.load_cert_chain(self._cert, self._key, _no_password)
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            why = "holds no certificate that fits the key in"
            raise SettingError(f"tls_cert: {self._cert} {why} {self._key}: {_reason(error)}.") from error
        if self._client_ca is not None:
            try:
                context.load_verify_locations(self._client_ca)
            except OSError as error:
                raise SettingError(
                    f"tls_client_ca: {self._client_ca} holds no certificate: {_reason(error)}."
                ) from error
            context.num_tickets = 0  # a session that is resumed would skip the check of the certificate
            context.options |= ssl.OP_NO_TICKET
            context.verify_mode = ssl.CERT_REQUIRED if self._needs_client else ssl.CERT_OPTIONAL
        return context

    def _stamp_now(self) -> Stamp:
        return tuple(_stamp(path) for path in (self._cert, self._key, self._client_ca) if path is not None)


def tls_of(settings: Settings) -> Tls | None:
    """Return TLS as the settings want it; None for plain HTTP. Raises SettingError."""
    if settings.tls_cert:
        return Tls(settings)
    for name in ("tls_key", "tls_client_ca"):
        if getattr(settings, name):
            raise SettingError(f"{name} needs tls_cert too, the file of the server's certificate.")
    return None


def names_of(certificate: Mapping[str, Any] | None) -> tuple[CertifiedName, ...]:
    """Return the names in a client's certificate, as the ssl module gives it: hosts, mail addresses, URIs, its subject."""
    if not certificate:
        return ()
    named: Sequence[tuple[str, str]] = certificate.get("subjectAltName", ())
    subject = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    alternatives = [CertifiedName(KINDS[kind], value) for kind, value in named if kind in KINDS]
    return (*alternatives, *(CertifiedName("subject", f"CN={value}") for value in subject))


def _content(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingError(f"{setting}: {path} cannot be read: {error.strerror}.") from error


def _no_password() -> str:
    raise ValueError("the key is encrypted; the service reads keys without a password")


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error).replace("_", " ").lower()


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
