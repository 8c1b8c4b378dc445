"""The check of one request: who calls, and whether that caller may have what it asks for."""

import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from batchproof.service.access.grant import Grant, Need
from batchproof.service.access.key_ring import PREFIX, KeyRing
from batchproof.service.access.patterns import CertifiedName
from batchproof.service.errors import ServiceError

AUTHORIZATION = b"authorization"
API_KEY = b"x-api-key"
BEARER = b"bearer "
MAX_CREDENTIAL_BYTES = 8192
Headers = Sequence[tuple[bytes, bytes]]  # names in lower case


class Tokens(Protocol):
    """What knows bearer tokens that are not keys."""

    def __call__(self, token: bytes) -> Grant:
        """Return what a token grants; raises ServiceError 401."""
        ...

    def refresh(self, *, at_once: bool = False) -> None:
        """Read again what tokens are checked with, where it changed or in any case. Blocks."""
        ...


class Access:
    """Keys, and tokens where they are accepted. Replaced as a whole when the file of keys changes.

    Nearly every request is a prediction with a key that an earlier one carried, so keys that may predict without a quota
    are remembered by the header as it was sent. That is a dictionary: it compares hashes, keyed with a secret of this
    process, and looks at a key only where all 64 bits agree, so its time tells nothing about keys. It holds keys of the
    file alone, in one spelling for each header.
    """

    def __init__(self, keys: KeyRing | None, tokens: Tokens | None = None) -> None:
        """Accept these keys and tokens."""
        self._keys = keys
        self._tokens = tokens
        self._predictors: dict[bytes, Grant] = {}  # by the value of Authorization
        self._key_predictors: dict[bytes, Grant] = {}  # by the value of X-API-Key

    def recall(self, headers: Headers, special: Mapping[bytes, bytes]) -> Grant | None:
        """Return the grant of a caller who may predict and was here before; None where it takes a closer look.

        `special` holds the last value of each header; it is shorter than `headers` where one of them came twice.
        """
        sent = special.get(AUTHORIZATION)
        if sent is None:
            grant = self._key_predictors.get(special.get(API_KEY, b""))
        else:
            grant = None if API_KEY in special else self._predictors.get(sent)
        if grant is None or len(special) != len(headers):
            return None
        return grant if grant.not_after_s is None or time.time() <= grant.not_after_s else None

    def identify(self, headers: Headers, peer: Sequence[CertifiedName] = ()) -> Grant:
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

    @staticmethod
    def admit(grant: Grant, need: Need) -> None:
        """Count a request of an identified caller; raises 403 and 429 where it may not have what is needed now."""
        try:
            grant.check(need)
            grant.account.admit()
        except ServiceError:
            grant.counts.refused += 1
            raise
        grant.counts.requests += 1

    def _grant(self, credential: bytes) -> Grant:
        if self._keys is not None and (grant := self._keys.grant(credential)) is not None:
            if "predict" in grant.scopes and not grant.has_quota and credential == credential.strip():
                self._predictors[b"Bearer " + credential] = self._key_predictors[credential] = grant
            return grant
        if self._tokens is not None and not credential.startswith(PREFIX.encode()):
            return self._tokens(credential)
        raise unauthorized("The service does not know this key.")


def _credential(headers: Headers) -> bytes | None:
    """Return the key or token that a request carries; raises 401 where it carries two different ones.

    Every header counts, repeated ones too: a proxy may have looked at another of them than the last.
    """
    credential: bytes | None = None
    for name, value in headers:
        if name == AUTHORIZATION:
            if value[: len(BEARER)].lower() != BEARER:
                raise unauthorized("Authorization must be: Bearer KEY.")
            sent = value[len(BEARER) :].strip()
        elif name == API_KEY:
            sent = value
        else:
            continue
        if credential is not None and sent != credential:
            raise unauthorized("The request carries different keys; send one of them, in one header.")
        credential = sent
    if credential is not None and len(credential) > MAX_CREDENTIAL_BYTES:
        raise unauthorized(f"The key is longer than {MAX_CREDENTIAL_BYTES} bytes.")
    return credential or None


def unauthorized(message: str) -> ServiceError:
    """Return 401; every protocol sends it with WWW-Authenticate."""
    return ServiceError(401, "unauthorized", message, authenticate='Bearer realm="batchproof"')
