"""Tokens of an identity provider: which count, what they grant, and how its keys change."""

import base64
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from batchproof.service.access import tokens
from batchproof.service.access.grant import Need
from batchproof.service.access.tokens import TokenVerifier
from batchproof.service.errors import ServiceError, SettingError

ISSUER, AUDIENCE = "https://login.example.org", "batchproof"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())


def key_set(**keys: Any) -> dict[str, Any]:
    """Return the JWKS of public keys, by their ids."""
    entries = []
    for name, key in keys.items():
        algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
        entries.append({**json.loads(algorithm.to_jwk(key.public_key())), "kid": name, "use": "sig"})
    return {"keys": entries}


def token(key: Any = EC_KEY, kid: str = "ec", algorithm: str = "ES256", **changed: Any) -> bytes:
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ada",
        "exp": time.time() + 600,
        "scope": "predict openid",
        **changed,
    }
    return jwt.encode({k: v for k, v in claims.items() if v is not None}, key, algorithm, headers={"kid": kid}).encode()


@pytest.fixture
def verifier(tmp_path: Path) -> TokenVerifier:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(key_set(rsa=RSA_KEY, ec=EC_KEY)))
    return TokenVerifier(ISSUER, AUDIENCE, str(path))


@pytest.mark.parametrize(("key", "kid", "algorithm"), [(RSA_KEY, "rsa", "RS256"), (EC_KEY, "ec", "ES256")])
def test_a_valid_token_grants_its_scopes(verifier: TokenVerifier, key: Any, kid: str, algorithm: str) -> None:
    """A token of the provider names the caller and its scopes; scopes that are none of ours grant nothing."""
    for _ in range(2):  # the second time from the cache
        grant = verifier(token(key, kid, algorithm, models=["price-*"]))
        assert (grant.name, grant.scopes, grant.models) == ("ada", {"predict"}, ("price-*",))


def test_a_scope_that_is_no_text_grants_nothing(verifier: TokenVerifier) -> None:
    """A valid token whose scopes cannot be read names a caller that may do nothing."""
    for scope in (5, {"predict": True}, [["predict"]], True):
        assert verifier(token(scope=scope)).scopes == frozenset()


def test_scopes_have_several_spellings(verifier: TokenVerifier) -> None:
    """Scopes come as text or list, with or without a prefix."""
    for claims in ({"scope": "batchproof:read batchproof.predict"}, {"scope": None, "scp": ["read", "predict"]}):
        assert verifier(token(**claims)).scopes == {"read", "predict"}


def signed(payload: bytes, **header: object) -> bytes:
    """Sign any bytes with the provider's key, as no library for tokens would."""
    parts = json.dumps({"alg": "ES256", "kid": "ec", **header}).encode(), payload
    message = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = ECAlgorithm(ECAlgorithm.SHA256).sign(message, EC_KEY)
    return message + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")


def claims_of(**changed: object) -> bytes:
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": time.time() + 600, "scope": "predict"}
    return json.dumps({**claims, **changed}).encode()


LONE = "\ud800"  # which JSON can spell and UTF-8 cannot


@pytest.mark.parametrize(
    "forged",
    [
        lambda: signed(claims_of(), crit=[LONE]),
        lambda: signed(claims_of(), kid=LONE),
        lambda: signed(claims_of(), alg=LONE),
        lambda: signed(claims_of(), alg=["ES256"]),
        lambda: signed(claims_of(), crit=["b64"], b64=False),
        lambda: signed(claims_of(), zip="DEF", crit=["zip"]),
        lambda: signed(claims_of(sub="")),
        lambda: signed(claims_of(aud=[])),
        lambda: signed(claims_of(aud=["other", LONE])),
        lambda: signed(claims_of(aud={AUDIENCE: 1})),
        lambda: signed(claims_of(iss=[ISSUER])),
        lambda: signed(claims_of(iss=LONE)),
        lambda: signed(claims_of(exp=float("nan"))),
        lambda: signed(claims_of(exp=float("inf"))),
        lambda: signed(claims_of(nbf=LONE)),
        lambda: signed(b"[]"),
        lambda: signed(b'{"a":' * 900),
        lambda: signed(claims_of()).rpartition(b".")[0] + b"." + b"A" * 86,
    ],
)
def test_whatever_a_token_holds_its_refusal_can_be_sent(verifier: TokenVerifier, forged: Any) -> None:
    """A token of unusual claims is 401 with a sentence that every protocol can write."""
    with pytest.raises(ServiceError) as caught:
        verifier(forged())
    assert caught.value.status == 401
    assert json.loads(caught.value.as_json("id"))["error"]["code"] == "unauthorized"


def test_names_in_tokens_are_printable(verifier: TokenVerifier) -> None:
    """A provider may let people choose their name: in logs and refusals it moves no cursor and begins no line."""
    for name in (LONE, "a\nb", "\x1b[31m", "\u202e", "a\x00"):
        grant = verifier(signed(claims_of(sub=name, models=[LONE])))
        assert grant.name.isprintable()
        with pytest.raises(ServiceError) as caught:
            grant.check(Need(("admin",)))
        assert caught.value.as_json("id")
        with pytest.raises(ServiceError) as caught:
            grant.check_model("flowers")
        assert caught.value.as_json("id")


def public_pem() -> bytes:
    return RSA_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def forged_with_public_key() -> bytes:
    """Sign with HMAC and the public key as its secret: the oldest forgery of tokens."""
    import hashlib
    import hmac

    head = {"alg": "HS256", "kid": "rsa", "typ": "JWT"}
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "eve", "exp": time.time() + 600, "scope": "admin"}
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (head, claims)]
    message = b".".join(encoded)
    signature = hmac.new(public_pem(), message, hashlib.sha256).digest()
    return message + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")


def embedded_key(header: str) -> bytes:
    """Sign with a key that the token itself brings or says where to fetch."""
    brought = json.loads(ECAlgorithm.to_jwk(OTHER_KEY.public_key()))
    headers = {"kid": "ec", header: brought if header == "jwk" else "https://evil.example.org/jwks"}
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "eve", "exp": time.time() + 600, "scope": "admin"}
    return jwt.encode(claims, OTHER_KEY, "ES256", headers=headers).encode()


@pytest.mark.parametrize(
    "forged",
    [
        lambda: token(exp=time.time() - 60),
        lambda: token(exp=None),
        lambda: token(sub=None),
        lambda: token(iss="https://elsewhere.example.org"),
        lambda: token(aud="another"),
        lambda: token(nbf=time.time() + 600),
        lambda: token(OTHER_KEY),
        lambda: token(OTHER_KEY, "unknown"),
        lambda: token(key=None, kid="ec", algorithm="none"),
        lambda: token(models="price"),
        forged_with_public_key,
        lambda: b"not a token",
        lambda: token()[:-4] + b"AAAA",
        lambda: token(exp=10**400),
        lambda: token(models={"price": 1}),
        lambda: token(sub=["ada"]),
        lambda: base64.urlsafe_b64encode(b"[" * 5000).rstrip(b"=") + b".e30.e30",
        lambda: base64.urlsafe_b64encode(b'{"a":' * 1000).rstrip(b"=") + b".e30.e30",
        lambda: b"\xff.\xff.\xff",
        lambda: b"..",
        lambda: b"",
        lambda: jwt.encode({"sub": "eve"}, OTHER_KEY, "ES256", headers={"kid": "../../dev/null"}).encode(),
        lambda: embedded_key("jwk"),
        lambda: embedded_key("jku"),
    ],
)
def test_other_tokens_are_401(verifier: TokenVerifier, forged: Any) -> None:
    """Expired, early, for others, of others, unsigned or signed with a shared secret: 401."""
    with pytest.raises(ServiceError) as caught:
        verifier(forged())
    assert caught.value.status == 401


def test_a_cached_token_ends_in_its_time(verifier: TokenVerifier) -> None:
    """A token that was accepted once is refused from the moment that its time has passed."""
    mine = token(exp=time.time() - tokens.LEEWAY_S + 2)
    verifier(mine)
    time.sleep(2.5)
    with pytest.raises(ServiceError, match="expired"):
        verifier(mine)


@pytest.mark.parametrize(
    "content", ["", "{}", '{"keys": []}', '{"keys": [{"kty": "oct", "k": "AAAA"}]}', '{"keys": [1]}']
)
def test_a_key_set_without_public_keys_is_refused(tmp_path: Path, content: str) -> None:
    """A file that holds no public key stops the start with one sentence."""
    path = tmp_path / "jwks.json"
    path.write_text(content)
    with pytest.raises(SettingError, match=r"jwks\.json holds no"):
        TokenVerifier(ISSUER, AUDIENCE, str(path))
    with pytest.raises(SettingError, match=r"absent\.json cannot be read"):
        TokenVerifier(ISSUER, AUDIENCE, str(tmp_path / "absent.json"))


def test_a_file_is_read_again(tmp_path: Path) -> None:
    """After a reload a token of a removed key is refused, and a broken file leaves the old keys."""
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(key_set(ec=EC_KEY)))
    verifier = TokenVerifier(ISSUER, AUDIENCE, str(path))
    mine = token()
    verifier(mine)
    path.write_text("{")
    with pytest.raises(SettingError):
        verifier.reload()
    verifier(mine)
    path.write_text(json.dumps(key_set(ec=OTHER_KEY)))
    verifier.reload()
    with pytest.raises(ServiceError):
        verifier(mine)


class Provider(BaseHTTPRequestHandler):
    """Serves a set of keys that tests change."""

    keys: ClassVar[dict[str, Any]] = {}
    location = "/jwks"  # where /redirect leads

    def do_GET(self) -> None:
        """Answer with the keys, or as the end of the path says."""
        if self.path.endswith("/nonsense"):
            self.wfile.write(b"nonsense\r\n\r\n")
            return
        self.send_response(302 if self.path.endswith("/redirect") else 200)
        if self.path.endswith("/redirect"):
            self.send_header("location", self.location)
        self.end_headers()
        with contextlib.suppress(OSError):  # the service has hung up
            while self.path.endswith("/endless"):
                self.wfile.write(b" ")
                time.sleep(0.01)
            self.wfile.write(b" " * (2 << 20 if self.path.endswith("/huge") else 0) + json.dumps(self.keys).encode())

    def log_message(self, *given: Any) -> None:
        """Print nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Provider)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/jwks"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_unknown_key_is_fetched_soon(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token of a key that the provider made since is refused once, the keys are fetched, and it counts."""
    monkeypatch.setattr(tokens, "SOONEST_S", 0.0)
    Provider.keys = key_set(ec=EC_KEY)
    verifier = TokenVerifier(ISSUER, AUDIENCE, address)
    Provider.keys = key_set(ec=EC_KEY, new=OTHER_KEY)
    fresh = token(OTHER_KEY, "new")
    with pytest.raises(ServiceError):
        verifier(fresh)
    deadline_s = time.monotonic() + 10
    while "new" not in verifier._keys and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert verifier(fresh).name == "ada"


@pytest.mark.parametrize("end", ["endless", "huge"])
def test_an_answer_without_end_is_given_up(address: str, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """A provider that sends a byte now and then, or far too much, does not keep its keys from being read again."""
    monkeypatch.setattr(tokens, "FETCH_S", 0.2)
    with pytest.raises(SettingError, match="it is longer than"):
        TokenVerifier(ISSUER, AUDIENCE, f"{address}/{end}")


def test_withdrawn_keys_end_their_tokens(address: str) -> None:
    """A token that was accepted is refused once its key is no longer among those that are fetched."""
    Provider.keys = key_set(ec=EC_KEY, rsa=RSA_KEY)
    verifier = TokenVerifier(ISSUER, AUDIENCE, address)
    mine = token()
    verifier(mine)
    Provider.keys = key_set(rsa=RSA_KEY)
    verifier.reload()
    with pytest.raises(ServiceError, match="does not know"):
        verifier(mine)


def test_a_file_of_keys_is_watched(tmp_path: Path) -> None:
    """A file of keys that changes is read again; one that becomes unreadable changes nothing."""
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(key_set(ec=EC_KEY)))
    verifier = TokenVerifier(ISSUER, AUDIENCE, str(path))
    mine = token()
    for content, is_accepted in (("[" * 5000, True), (json.dumps(key_set(ec=OTHER_KEY)), False)):
        path.write_text(content)
        verifier.refresh()
        verifier.refresh()
        if is_accepted:
            assert verifier(mine).name == "ada"
        else:
            with pytest.raises(ServiceError):
                verifier(mine)


def test_one_unusual_key_spoils_no_other(tmp_path: Path) -> None:
    """Keys of kinds that cannot be read here are passed over."""
    path = tmp_path / "jwks.json"
    unusual = [
        {"kty": "EC", "crv": "P-999", "kid": "new"},
        {"kty": "RSA", "n": "?", "e": "?", "kid": "bad"},
        {"kty": "AKP", "kid": "pq"},
    ]
    path.write_text(json.dumps({"keys": [*unusual, *key_set(ec=EC_KEY)["keys"]]}))

    assert TokenVerifier(ISSUER, AUDIENCE, str(path))(token()).name == "ada"


def test_keys_come_only_over_https() -> None:
    """An address that is neither https nor this machine stops the start."""
    with pytest.raises(SettingError, match="must begin with https://"):
        TokenVerifier(ISSUER, AUDIENCE, "http://login.example.org/jwks")


@pytest.mark.parametrize(
    "target", ["http://login.example.org/jwks", "https://login.example.org/jwks", "http://127.0.0.1:{other}/jwks",
               "https://127.0.0.1:{own}/jwks", "//[::1]/jwks", "file:///etc/passwd"],
)  # fmt: skip
def test_no_redirect_leads_to_another_server(address: str, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    """Keys come from the server that the setting names: a redirect to another host, port or scheme is refused."""
    own = urlsplit(address).port or 0
    monkeypatch.setattr(Provider, "location", target.format(own=own, other=own - 1))
    with pytest.raises(SettingError, match=r"redirects to another server|cannot be read"):
        TokenVerifier(ISSUER, AUDIENCE, address + "/redirect")


@pytest.mark.parametrize("target", ["/jwks", "{address}"])
def test_a_redirect_on_the_same_server_is_followed(address: str, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    """A provider may move its keys to another path."""
    monkeypatch.setattr(Provider, "location", target.format(address=address))
    Provider.keys = key_set(ec=EC_KEY)
    assert TokenVerifier(ISSUER, AUDIENCE, address + "/redirect")(token()).name == "ada"


def test_keys_of_an_address_are_fetched_at_once(address: str) -> None:
    """SIGHUP fetches the keys of an address without waiting for the next time."""
    Provider.keys = key_set(ec=EC_KEY)
    verifier = TokenVerifier(ISSUER, AUDIENCE, address)
    Provider.keys = key_set(ec=EC_KEY, new=OTHER_KEY)
    verifier.refresh(at_once=True)
    deadline_s = time.monotonic() + 10
    while "new" not in verifier._keys and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert verifier(token(OTHER_KEY, "new")).name == "ada"


def test_a_provider_that_speaks_no_http_is_reported(address: str) -> None:
    """An answer that is not HTTP is reported as any other failure to read the keys."""
    with pytest.raises(SettingError, match="cannot be read"):
        TokenVerifier(ISSUER, AUDIENCE, address + "/nonsense")
