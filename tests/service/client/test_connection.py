"""How the clients reach a service: keys, TLS, and what is refused before anything is sent."""

import asyncio
import datetime as dt
import http.server
import ipaddress
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from batchproof.service.client import AsyncClient, Client, Retries
from batchproof.service.client.connection import KEY_VARIABLE, request_headers
from tests.certificates import of_authority, of_holder

KEY = "k-3f9a"
ONCE = Retries(most=0)


@contextmanager
def listening(context: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[str | None]]]:
    """Answer predictions; yields the address and the header authorization of each request."""
    keys: list[str | None] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            keys.append(self.headers["authorization"])
            body = json.dumps({"predictions": [{"value": 1.0}]}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Say nothing of a client that does not trust the certificate."""

    with Server(("127.0.0.1", 0), Handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http{'s' if context else ''}://127.0.0.1:{server.server_port}", keys
        finally:
            server.shutdown()
            thread.join()


def ask(url: str, *, is_async: bool, **settings: Any) -> Any:
    """Return the prediction of one row by either client."""

    async def through() -> Any:
        async with AsyncClient(url, "price", retries=ONCE, **settings) as client:
            return await client.predict({"x": 1})

    if is_async:
        return asyncio.run(through())
    with Client(url, "price", retries=ONCE, **settings) as client:
        return client.predict({"x": 1})


@pytest.mark.parametrize("is_async", [False, True])
def test_a_key_is_a_bearer(monkeypatch: pytest.MonkeyPatch, *, is_async: bool) -> None:
    """The key goes as Authorization: Bearer; the argument goes before the environment, a header before that."""
    with listening() as (url, keys):
        ask(url, is_async=is_async)
        ask(url, is_async=is_async, api_key=KEY)
        monkeypatch.setenv(KEY_VARIABLE, "from-environment")
        ask(url, is_async=is_async)
        ask(url, is_async=is_async, api_key=KEY)
        ask(url, is_async=is_async, headers={"Authorization": "Basic abc"})
    assert keys == [None, f"Bearer {KEY}", "Bearer from-environment", f"Bearer {KEY}", "Basic abc"]


@pytest.mark.parametrize("key", ["", "two words", "line\nbreak", "schlüssel"])
def test_a_key_that_no_header_holds(key: str) -> None:
    """It is refused when the client is made, and not repeated in the message."""
    for make in (Client, AsyncClient):
        with pytest.raises(ValueError, match="visible ASCII") as refused:
            make("http://127.0.0.1:9", api_key=key)
        assert not key or key not in str(refused.value)
    with pytest.raises(ValueError, match="api_key and a header authorization"):
        request_headers({"AUTHORIZATION": "x"}, "key", {})


def certificate(folder: Path, name: str, issuer: tuple[Any, Any] | None = None) -> tuple[Any, Any]:
    """Write <name>.pem and <name>.key; returns the certificate and its key. Without an issuer it is an authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(address, critical=False)
    )
    extended = of_holder(builder, issuer[1]) if issuer else of_authority(builder, key)
    made = extended.sign(issuer[1] if issuer else key, hashes.SHA256())
    (folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / f"{name}.key").write_bytes(key.private_bytes(*form))
    return made, key


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an authority, and a certificate of a server and of a client that it signed."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = certificate(folder, "authority")
    for name in ("server", "client"):
        certificate(folder, name, authority)
    return folder


@pytest.fixture(params=[False, True], ids=["any-client", "known-clients"])
def secure(request: pytest.FixtureRequest, certificates: Path) -> Iterator[tuple[str, bool]]:
    """Serve over TLS; yields the address and whether the client must show a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    if request.param:
        context.load_verify_locations(certificates / "authority.pem")
        context.verify_mode = ssl.CERT_REQUIRED
    with listening(context) as (url, _):
        yield url, request.param


@pytest.mark.parametrize("is_async", [False, True])
def test_tls(secure: tuple[str, bool], certificates: Path, *, is_async: bool) -> None:
    """A service is trusted by its authority or blindly, never by itself; a client shows its certificate if it is asked."""
    url, asks_for_one = secure
    authority = str(certificates / "authority.pem")
    shown = (str(certificates / "client.pem"), str(certificates / "client.key"))
    for trust in ({"cafile": authority}, {"verify": False}):
        assert ask(url, is_async=is_async, client_cert=shown, **trust) == {"value": 1.0}
    refused: list[dict[str, Any]] = [{"client_cert": shown}] + [{"cafile": authority}] * asks_for_one
    for settings in refused:
        with pytest.raises(ConnectionError, match="the service does not answer"):
            ask(url, is_async=is_async, **settings)


@pytest.mark.parametrize(
    ("url", "settings", "words"),
    [
        ("localhost:8000", {}, "is not an address such as http"),
        ("http://127.0.0.1:9", {"verify": False}, "verify, cafile and client_cert are for https"),
        ("http://127.0.0.1:9", {"cafile": "ca.pem"}, "are for https"),
        ("https://127.0.0.1:9", {"cafile": "ca.pem", "verify": False}, "verify=False trusts everybody"),
    ],
)
def test_settings_that_have_no_effect_are_refused(url: str, settings: dict[str, Any], words: str) -> None:
    """What would be without effect, or weaken the connection unseen, is refused when the client is made."""
    for make in (Client, AsyncClient):
        with pytest.raises(ValueError, match=words):
            make(url, "flowers", **settings)
