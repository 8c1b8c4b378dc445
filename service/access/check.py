"""The check of one request: who calls, and whether that caller may have what it asks for."""

import time
from collections.abc import Callable, Mapping, Sequence

from batchproof.service.access.grant import Grant, Need
from batchproof.service.access.keys_file import PREFIX, KeyRing
from batchproof.service.errors import ServiceError

AUTHORIZATION = b"authorization"
API_KEY = b"x-api-key"
BEARER = b"bearer "
MAX_CREDENTIAL_BYTES = 8192
Tokens = Callable[[bytes], Grant]  # a bearer token that is not a key -> its grant; raises ServiceError 401


class Access:
    """Keys, and tokens where they are accepted. Replaced as a whole when the file of keys changes."""

    def __init__(self, keys: KeyRing | None, tokens: Tokens | None = None) -> None:
        """Accept these keys and tokens."""
        self._keys = keys
        self._tokens = tokens

    def identify(self, headers: Mapping[bytes, bytes], peer: Sequence[str] = ()) -> Grant:
        """Return what the caller may do, from `Authorization: Bearer` or `X-API-Key`; raises 401.

        `peer`: the names in its client certificate, which count where it sends no key.
        """
        credential = _credential(headers)
        certified = self._keys.certified(peer) if credential is None and peer and self._keys is not None else None
        if credential is None and certified is None:
            raise unauthorized("This request needs a key: send it as Authorization: Bearer KEY or as X-API-Key: KEY.")
        grant = certified if certified is not None else self._grant(credential or b"")
        if grant.not_after_s is not None and time.time() > grant.not_after_s:
            raise unauthorized(f"The key of {grant.name!r} has expired.")
        return grant

    def check(self, headers: Mapping[bytes, bytes], need: Need, peer: Sequence[str] = ()) -> Grant:
        """Return the grant of a caller who may have what is needed now; raises 401, 403 and 429."""
        grant = self.identify(headers, peer)
        try:
            grant.check(need)
            grant.account.admit()
        except ServiceError:
            grant.counts.refused += 1
            raise
        return grant

    def _grant(self, credential: bytes) -> Grant:
        if self._keys is not None and (grant := self._keys.grant(credential)) is not None:
            return grant
        if self._tokens is not None and not credential.startswith(PREFIX.encode()):
            return self._tokens(credential)
        raise unauthorized("The service does not know this key.")


def _credential(headers: Mapping[bytes, bytes]) -> bytes | None:
    """Return the key or token that a request carries; raises 401 where it carries two different ones."""
    api_key, header = headers.get(API_KEY), headers.get(AUTHORIZATION)
    if header is None:
        credential = api_key
    elif header[: len(BEARER)].lower() != BEARER:
        raise unauthorized("Authorization must be: Bearer KEY.")
    else:
        credential = header[len(BEARER) :].strip()
        if api_key is not None and api_key != credential:
            raise unauthorized("Authorization and X-API-Key name different keys; send one of them.")
    if credential is not None and len(credential) > MAX_CREDENTIAL_BYTES:
        raise unauthorized(f"The key is longer than {MAX_CREDENTIAL_BYTES} bytes.")
    return credential or None


def unauthorized(message: str) -> ServiceError:
    """Return 401; every protocol sends it with WWW-Authenticate."""
    return ServiceError(401, "unauthorized", message, authenticate='Bearer realm="batchproof"')
