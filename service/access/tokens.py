"""Signed tokens (JWT) of an identity provider: who it says the caller is, and what it says the caller may do.

A token counts where the provider's key signed it, for this audience, in its time. Its claims become a grant: `sub` names
the caller, `scope` (text with blanks) or `scp` (a list) holds the scopes, with or without the prefix `batchproof:`, and
`models` may hold patterns of model names. Only signatures with a public key count; a shared secret never does.
"""

import hashlib
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt

from batchproof.service.access.check import unauthorized
from batchproof.service.access.grant import SCOPES, Grant
from batchproof.service.errors import SettingError
from batchproof.service.logs import event

ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"}
)
CLAIMS = ["exp", "iss", "aud", "sub"]
LEEWAY_S = 30  # clocks differ
REFRESH_S = 300.0  # how often the provider's keys are fetched again
SOONEST_S = 30.0  # a token with an unknown key makes it sooner, but not sooner than this after the last time
FETCH_TIMEOUT_S = 5.0
JWKS_BYTES = 1 << 20
CACHED_TOKENS = 4096
MODEL_PATTERNS = 100


class TokenVerifier:
    """Checks tokens on the event loop; keys come from a file, or are fetched by a thread of their own."""

    def __init__(self, issuer: str, audience: str, source: str) -> None:
        """Read the provider's keys (a JWKS) from the file or the https address `source`; raises SettingError."""
        self._issuer = issuer
        self._audience = audience
        self._source = source
        self._keys = self._read()
        self._fetched_s = time.monotonic()
        self._grants: dict[bytes, tuple[float, Grant]] = {}  # SHA-256 of a token -> its end, what it grants
        self._wake = threading.Event()
        if _is_address(source):
            threading.Thread(target=self._refresh, name="jwks", daemon=True).start()

    def __call__(self, token: bytes) -> Grant:
        """Return what the token grants; raises ServiceError 401."""
        digest = hashlib.sha256(token).digest()
        end_s, grant = self._grants.get(digest, (0.0, None))
        if grant is not None and time.time() < end_s:
            return grant
        claims = self._claims(token)
        grant = _grant(claims)
        if len(self._grants) >= CACHED_TOKENS:
            self._grants.clear()
        self._grants[digest] = (float(claims["exp"]), grant)
        return grant

    def reload(self) -> None:
        """Read the keys of a file anew; raises SettingError, and goes on with the old ones then."""
        self._keys = self._read()
        self._grants.clear()

    def _claims(self, token: bytes) -> Mapping[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
            key = self._keys.get(str(header.get("kid", "")))
            if key is None:
                self._ask_for_keys()
                raise unauthorized("The token is signed by a key that the service does not know.")
            claims: Mapping[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_S,
                options={"require": CLAIMS},
            )
        except jwt.PyJWTError as error:
            raise unauthorized(f"The token is not valid: {str(error)[:200].rstrip('.')}.") from error
        return claims

    def _ask_for_keys(self) -> None:
        if time.monotonic() - self._fetched_s > SOONEST_S:
            self._wake.set()

    def _refresh(self) -> None:
        while True:
            self._wake.wait(REFRESH_S)
            self._fetched_s = time.monotonic()
            self._wake.clear()
            try:
                self._keys = self._read()
            except SettingError as error:
                event("jwt_keys_not_read", 30, reason=str(error))

    def _read(self) -> dict[str, jwt.PyJWK]:
        """Return {key id: key} of the source."""
        try:
            raw = _fetch(self._source) if _is_address(self._source) else Path(self._source).read_bytes()
            content = json.loads(raw)
            entries = content["keys"]
            keys = {str(entry.get("kid", "")): jwt.PyJWK.from_dict(entry) for entry in entries if _can_sign(entry)}
        except OSError as error:
            raise SettingError(f"jwt_keys: {self._source} cannot be read: {error}") from error
        except (ValueError, KeyError, TypeError, AttributeError, jwt.PyJWTError) as error:
            raise SettingError(f"jwt_keys: {self._source} holds no set of public keys (JWKS): {error}") from error
        usable = {name: key for name, key in keys.items() if key.algorithm_name in ALGORITHMS}
        if not usable:
            raise SettingError(f"jwt_keys: {self._source} holds no key for {', '.join(sorted(ALGORITHMS))}")
        return usable


def _can_sign(entry: Mapping[str, Any]) -> bool:
    return entry.get("use", "sig") == "sig" and entry.get("kty") in ("RSA", "EC", "OKP")


def _is_address(source: str) -> bool:
    return source.startswith(("https://", "http://"))


def _fetch(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=FETCH_TIMEOUT_S) as response:  # noqa: S310 - the operator's address
        return bytes(response.read(JWKS_BYTES))


def _grant(claims: Mapping[str, Any]) -> Grant:
    """Return the grant that the claims of a valid token say."""
    named = claims.get("scope", claims.get("scp", ""))
    words = named.split() if isinstance(named, str) else [word for word in named if isinstance(word, str)]
    scopes = {word.removeprefix("batchproof:").removeprefix("batchproof.") for word in words}
    models = claims.get("models", ["*"])
    if not isinstance(models, list) or not all(isinstance(pattern, str) for pattern in models):
        raise unauthorized("The token's claim models must be a list of texts.")
    return Grant(
        name=str(claims["sub"])[:100],
        scopes=frozenset(scopes) & frozenset(SCOPES),
        models=tuple(models[:MODEL_PATTERNS]),
        not_after_s=float(claims["exp"]) + LEEWAY_S,
    )
