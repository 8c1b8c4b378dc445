"""A bundle of a hub's repository is read at one commit, over its HTTP routes, from a local stand-in of the hub."""

import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote

import pytest

from batchproof.service.configuration.address import Address
from batchproof.service.stores.opening import open_store
from batchproof.service.stores.store import MissingError, StoreError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "README.md": b"card",
    "bundle.json": b"{}",
    "large.bin": b"",
    "older/2/bundle.json": b"{2}",
    ".hidden/bundle.json": b"no",
}
TOKENS: list[str | None] = []  # of each request, in order


class Hub(BaseHTTPRequestHandler):
    """The routes of the hub that are asked for: what a revision holds, and a file of a commit, which may be elsewhere."""

    def do_GET(self) -> None:
        """Answer as the hub does."""
        TOKENS.append(self.headers.get("Authorization"))
        path, port = unquote(self.path), self.server.server_address[1]  # type: ignore[misc]
        if path == "/stored/elsewhere":
            return self._send(b"large")
        if path == "/api/models/owner/odd":
            return self._send(b"[]")
        if path.endswith("/large.bin"):
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{port}/stored/elsewhere")
            return self.end_headers()
        if path in ("/api/models/owner/penguins", "/api/models/owner/penguins/revision/v1"):
            files = [{"rfilename": name} for name in FILES]
            return self._send(json.dumps({"id": "owner/penguins", "sha": COMMIT, "siblings": files}).encode())
        name = path.removeprefix(f"/owner/penguins/resolve/{COMMIT}/")
        return self._send(FILES[name]) if name in FILES else self.send_error(404)

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as listening:
        Thread(target=listening.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{listening.server_address[1]}")
        monkeypatch.setenv("HF_HOME", str(tmp_path))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        TOKENS.clear()
        yield
        listening.shutdown()


@pytest.mark.parametrize("rest", ["owner/penguins", "owner/penguins@v1"])
def test_a_repository_is_read_at_one_commit(rest: str, tmp_path: Path) -> None:
    """The folders with a bundle.json are listed, hidden ones not, and files come from the commit that was listed."""
    opened = open_store(Address("hf", rest))
    assert opened.folders() == ["", "older/2"]

    opened.fetch("older/2", "bundle.json", tmp_path / "file", 10)

    assert (tmp_path / "file").read_bytes() == b"{2}"
    assert set(TOKENS) == {None}


@pytest.mark.parametrize("place", ["variable", "file"])
def test_a_token_goes_to_the_hub_and_not_to_where_it_redirects(
    place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The token of a variable or of the hub's own file is sent to the hub; the host that stores large files gets none."""
    if place == "variable":
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
    else:
        (tmp_path / "token").write_text("hf_secret\n")

    open_store(Address("hf", "owner/penguins")).fetch("", "large.bin", tmp_path / "file", 10)

    assert (tmp_path / "file").read_bytes() == b"large"
    assert TOKENS == ["Bearer hf_secret", "Bearer hf_secret", None]


def test_what_is_not_there_is_missing(tmp_path: Path) -> None:
    """A file that the commit does not hold is missing, and one that is too long is refused."""
    opened = open_store(Address("hf", "owner/penguins"))
    with pytest.raises(MissingError, match=r"model\.sig is missing from hf://owner/penguins"):
        opened.fetch("", "model.sig", tmp_path / "file", 10)
    with pytest.raises(StoreError, match=r"README\.md has more than the allowed 3 bytes"):
        opened.fetch("", "README.md", tmp_path / "file", 3)


@pytest.mark.parametrize(
    ("rest", "says"),
    [
        ("owner/puffins", "was answered with 404"),
        ("owner/penguins@v2", "was answered with 404"),
        ("owner/odd", "valid Hub response"),
    ],
)
def test_a_repository_that_is_not_there_is_a_sentence(rest: str, says: str) -> None:
    """What the hub answers stands in the refusal."""
    with pytest.raises(StoreError, match=says):
        open_store(Address("hf", rest))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address whose package is not installed says how to install it."""
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(StoreError, match=r"mlflow:models:/a/1 needs mlflow.*pip install 'mlflow-skinny"):
        open_store(Address("mlflow", "models:/a/1"))


def test_a_token_is_not_sent_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another server of the hub's routes must speak TLS, unless it is on this machine."""
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.example.org")
    with pytest.raises(StoreError, match="use https"):
        open_store(Address("hf", "owner/penguins"))
    assert TOKENS == []
