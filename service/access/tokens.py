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
import urllib.parse
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any

import jwt

from batchproof.service.access.credentials import unauthorized
from batchproof.service.access.grant import SCOPES, Grant
from batchproof.service.access.watched_file import WatchedFile
from batchproof.service.errors import SettingError, printable
from batchproof.service.runtime.logs import event

ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"}
)
CLAIMS = ["exp", "iss", "aud", "sub"]
LEEWAY_S = 30  # clocks differ
REFRESH_S = 300.0  # how often the provider's keys are fetched again
SOONEST_S = 30.0  # a token with an unknown key makes it sooner, but not sooner than this after the last time
FETCH_TIMEOUT_S = 5.0  # without a byte
FETCH_S = 30.0
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
        self._file = None if _is_address(source) else WatchedFile(Path(source))
        self._keys = self._read()
        self._fetched_s = time.monotonic()
        self._grants: dict[bytes, tuple[float, Grant]] = {}  # SHA-256 of a token -> its end, what it grants
        self._wake = threading.Event()
        if _is_address(source):
            threading.Thread(target=self._refresh, name="jwks", daemon=True).start()

    def __call__(self, token: bytes) -> Grant:
        """Return what the token grants; raises ServiceError 401."""
        digest, grants = hashlib.sha256(token).digest(), self._grants  # those of the keys that are in force now
        end_s, grant = grants.get(digest, (0.0, None))
        if grant is not None and time.time() < end_s:
            return grant
        claims = self._claims(token)
        try:
            grant = _grant(claims)
        except (ValueError, TypeError, OverflowError) as error:
            raise unauthorized("The token is not valid: a claim in it cannot be read.") from error
        if len(grants) >= CACHED_TOKENS:
            grants.clear()
        grants[digest] = (grant.not_after_s or 0.0, grant)
        return grant

    def reload(self) -> None:
        """Read the keys anew; raises SettingError, and goes on with the old ones then."""
        self._keys = self._read()
        self._grants = {}  # a token of a key that the provider withdrew counts no longer

    def refresh(self, *, at_once: bool = False) -> None:
        """Read the keys of a file again where it changed; one that cannot be read changes nothing. Blocks.

        `at_once`: also where it did not, and have the keys of an address fetched now.
        """
        if self._file is None:
            if at_once:
                self._wake.set()
            return
        if self._file.is_due(at_once=at_once):
            self._reload_logged()

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
        except (ValueError, TypeError, OverflowError, RecursionError) as error:  # what its library does not foresee
            raise unauthorized("The token is not valid: it cannot be read.") from error
        return claims

    def _ask_for_keys(self) -> None:
        if time.monotonic() - self._fetched_s > SOONEST_S:
            self._wake.set()

    def _refresh(self) -> None:
        while True:
            self._wake.wait(REFRESH_S)
            self._fetched_s = time.monotonic()
            self._wake.clear()
            self._reload_logged()

    def _reload_logged(self) -> None:
        try:
            self.reload()
        except SettingError as error:
            event("jwt_keys_not_read", 30, reason=str(error))

    def _read(self) -> dict[str, jwt.PyJWK]:
        """Return {key id: key} of the source."""
        try:
            raw = _fetch(self._source) if _is_address(self._source) else Path(self._source).read_bytes()
            content = json.loads(raw)
            entries = content["keys"]
            keys = dict(filter(None, map(_key, entries)))
        except (OSError, HTTPException) as error:
            raise SettingError(f"jwt_keys: {self._source} cannot be read: {error}") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise SettingError(f"jwt_keys: {self._source} holds no set of public keys (JWKS): {error}") from error
        usable = {name: key for name, key in keys.items() if key.algorithm_name in ALGORITHMS}
        if not usable:
            raise SettingError(f"jwt_keys: {self._source} holds no key for {', '.join(sorted(ALGORITHMS))}")
        return usable


def _key(entry: Mapping[str, Any]) -> tuple[str, jwt.PyJWK] | None:
    """Return (key id, public key); None for a key of another use or kind, which must not make the others useless."""
    if entry.get("use", "sig") != "sig" or entry.get("kty") not in ("RSA", "EC", "OKP"):
        return None
    try:
        return str(entry.get("kid", "")), jwt.PyJWK.from_dict(dict(entry))
    except (jwt.PyJWTError, ValueError, TypeError):
        return None


def _is_address(source: str) -> bool:
    return source.startswith(("https://", "http://"))


def _check_safe(address: str) -> None:
    """Raise SettingError for an address on the way to which the keys could be exchanged."""
    parts = urllib.parse.urlsplit(address)
    if parts.scheme != "https" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise SettingError(
            f"jwt_keys: {address} must begin with https://, or anybody on the way could exchange the keys"
        )


class _SameOrigin(urllib.request.HTTPRedirectHandler):
    """Follows redirects only to the same server: the setting names who is trusted, and that is nobody else."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if _origin(newurl) != _origin(req.full_url):
            fp.close()
            raise SettingError(
                f"jwt_keys: {req.full_url} redirects to another server, {newurl:.200}; name the address of the keys itself"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _origin(address: str) -> tuple[str, str]:
    parts = urllib.parse.urlsplit(address)
    return parts.scheme, parts.netloc.lower()


def _fetch(address: str) -> bytes:
    """Return what is at the address; raises OSError. An answer that never ends would keep withdrawn keys in force."""
    _check_safe(address)
    end_s, content = time.monotonic() + FETCH_S, b""
    try:
        with urllib.request.build_opener(_SameOrigin).open(address, timeout=FETCH_TIMEOUT_S) as response:
            while part := response.read1(JWKS_BYTES):
                content += part
                if len(content) > JWKS_BYTES or time.monotonic() > end_s:
                    raise OSError(f"it is longer than {JWKS_BYTES} bytes, or took longer than {FETCH_S:g} s")
    except urllib.error.HTTPError as error:  # also an answer, with a connection of its own
        error.close()
        raise
    return content


def _grant(claims: Mapping[str, Any]) -> Grant:
    """Return the grant that the claims of a valid token say."""
    named = claims.get("scope", claims.get("scp", ""))
    listed = named if isinstance(named, list) else []
    words = named.split() if isinstance(named, str) else [word for word in listed if isinstance(word, str)]
    scopes = {word.removeprefix("batchproof:").removeprefix("batchproof.") for word in words}
    models = claims.get("models", ["*"])
    if not isinstance(models, list) or not all(isinstance(pattern, str) for pattern in models):
        raise unauthorized("The token's claim models must be a list of texts.")
    if not claims["sub"]:
        raise unauthorized("The token's claim sub must name the caller.")
    return Grant(
        name=printable(str(claims["sub"])[:100]),
        scopes=frozenset(scopes) & frozenset(SCOPES),
        models=tuple(models[:MODEL_PATTERNS]),
        not_after_s=float(claims["exp"]) + LEEWAY_S,
    )
