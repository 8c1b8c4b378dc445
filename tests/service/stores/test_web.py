"""A bundle on a web server is read file by file, within its length; every answer that is not the file is one sentence."""

import ssl
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from batchproof.service.configuration.address import Address
from batchproof.service.stores.store import MissingError, StoreError
from batchproof.service.stores.web import WebStore
from bench.access import certify

Answer = Callable[[BaseHTTPRequestHandler], None]


def whole(handler: BaseHTTPRequestHandler) -> None:
    _send(handler, b"content", "7")


def cut_off(handler: BaseHTTPRequestHandler) -> None:
    _send(handler, b"con", "7")


def endless(handler: BaseHTTPRequestHandler) -> None:
    _send(handler, b"x" * 100_000, "")


def absent(handler: BaseHTTPRequestHandler) -> None:
    handler.send_error(404)


def broken(handler: BaseHTTPRequestHandler) -> None:
    handler.send_error(503)


def not_http(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"+OK POP3 ready\r\n")


def unencrypted(handler: BaseHTTPRequestHandler) -> None:
    _redirect(handler, "http://example.org/model.onnx")


def to_a_file(handler: BaseHTTPRequestHandler) -> None:
    _redirect(handler, "file:///etc/passwd")


def around(handler: BaseHTTPRequestHandler) -> None:
    _redirect(handler, handler.path)


def elsewhere(handler: BaseHTTPRequestHandler) -> None:
    if handler.path.endswith("/moved"):
        whole(handler)
    else:
        _redirect(handler, f"http://127.0.0.1:{handler.server.server_address[1]}/moved")  # type: ignore[misc]


def _send(handler: BaseHTTPRequestHandler, body: bytes, length: str) -> None:
    handler.send_response(200)
    if length:
        handler.send_header("Content-Length", length)
    handler.end_headers()
    handler.wfile.write(body)


def _redirect(handler: BaseHTTPRequestHandler, target: str) -> None:
    handler.send_response(302)
    handler.send_header("Location", target)
    handler.end_headers()


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.server.answer(self)  # type: ignore[attr-defined]

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        Thread(target=listening.serve_forever, daemon=True).start()
        yield listening
        listening.shutdown()


def fetched(server: ThreadingHTTPServer, answer: Answer, target: Path, max_bytes: int = 1000) -> bytes:
    server.answer = answer  # type: ignore[attr-defined]
    store = WebStore(Address("http", f"127.0.0.1:{server.server_address[1]}/penguins"))
    assert store.folders() == [""]
    store.fetch("", "model.onnx", target, max_bytes)
    return target.read_bytes()


@pytest.mark.parametrize("answer", [whole, elsewhere])
def test_a_file_is_read(server: ThreadingHTTPServer, answer: Answer, tmp_path: Path) -> None:
    """The file is written as it was sent, also after a redirect within this machine."""
    assert fetched(server, answer, tmp_path / "file") == b"content"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (cut_off, "ended after 3 of 7 bytes"),
        (endless, "more than the allowed 1000 bytes"),
        (broken, "was answered with 503"),
        (not_http, "cannot be read"),
        (unencrypted, "redirects to http://"),
        (to_a_file, "not allowed"),
        (around, "was answered with 302"),
    ],
)
def test_what_is_not_the_file_is_refused(
    server: ThreadingHTTPServer, answer: Answer, says: str, tmp_path: Path
) -> None:
    """Each way in which a server may fail is a sentence with the address, and no file counts as missing by it."""
    with pytest.raises(StoreError, match=says) as refused:
        fetched(server, answer, tmp_path / "file")

    assert not isinstance(refused.value, MissingError)


def test_a_file_that_is_not_there_is_missing(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    """404 says that the file is missing, which a signature may be."""
    with pytest.raises(MissingError, match="404"):
        fetched(server, absent, tmp_path / "file")


def test_nobody_answers(tmp_path: Path) -> None:
    """A server that is not there is a sentence."""
    with pytest.raises(StoreError, match=r"cannot be read: .*refused"):
        WebStore(Address("http", "127.0.0.1:9/penguins")).fetch("", "bundle.json", tmp_path / "file", 10)


def test_a_certificate_that_nobody_trusts_is_refused(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    """TLS without a certificate that the system trusts gives no file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certify(tmp_path)
    context.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.answer = whole  # type: ignore[attr-defined]

    with pytest.raises(StoreError, match=r"cannot be read: .*certificate"):
        WebStore(Address("https", f"localhost:{server.server_address[1]}/penguins")).fetch("", "a", tmp_path / "f", 10)
