"""The files of the pages: read at their first use, packed once, and cached by browsers for ever under a name with their hash.

All files share one hash, which stands in their address as a folder: scripts import one another by relative addresses and
stay in the same release. Another release's address, from a page that was loaded before an update, gets the present file,
which is not cached.
"""

import gzip
import hashlib
from functools import cached_property
from html import escape
from pathlib import Path, PurePosixPath
from string import Template
from typing import Final

from batchproof.service.protocols.accept import qualities
from batchproof.service.protocols.head import RequestHead
from batchproof.service.protocols.interface import Answer
from batchproof.service.server.web.pages.addresses import ASSET, PAGES, PageFile, address_of

STATIC: Final = Path(__file__).parent.parent / "static"
TYPES = {
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".mjs": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
    ".wasm": b"application/wasm",
}
HTML_TYPE = (b"content-type", b"text/html; charset=utf-8")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
POLICY_HEADER = (b"content-security-policy", POLICY.encode())
ENGINE_POLICY_HEADER = (
    b"content-security-policy",
    POLICY.replace("script-src 'self'", "script-src 'self' 'wasm-unsafe-eval'").encode(),
)
STORED_PACKED = ".gz"  # of files that are large and never change, sent as they are
FOR_EVER = (b"cache-control", b"public, max-age=31536000, immutable")
NOT_AT_ALL = (b"cache-control", b"no-store")
LEAST_PACKED_BYTES = 1024


class Assets:
    """The files of one release. Reading and packing block: ask in a thread."""

    def __init__(self, folder: Path = STATIC) -> None:
        """Serve the files below `folder`."""
        self._folder = folder
        self._packed: dict[str, bytes] = {}

    @cached_property
    def files(self) -> dict[str, Path]:
        """Return every file that is served, by its address below the hash; a stored packed one has the name of the other."""
        found = {
            path.relative_to(self._folder).as_posix().removesuffix(STORED_PACKED): path
            for path in sorted(self._folder.rglob("*"))
        }
        return {name: path for name, path in found.items() if PurePosixPath(name).suffix in TYPES}

    @cached_property
    def digest(self) -> str:
        """Return the hash of all files and their names."""
        total = hashlib.sha256()
        for name, path in self.files.items():
            total.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
        return total.hexdigest()[:16]

    @cached_property
    def layout(self) -> Template:
        """Return what all pages share."""
        return Template((self._folder / "layout.html").read_text(encoding="utf-8"))

    def page(self, page: PageFile, path: str) -> Answer:
        """Return a page as it is sent at `path`: its links are relative, so that it works behind any prefix."""
        root = "../" * (path.count("/") - 1) or "./"
        links = "".join(
            f'<a href="{root}{one.link.removeprefix("./")}"{_current(one, page)}>{escape(one.title)}</a>'
            for one in PAGES
            if one.link is not None
        )
        style = f"{page.folder}/page.css"
        text = self.layout.substitute(
            title=escape(page.title),
            root=root,
            assets=f"{root}assets/{self.digest}",
            folder=page.folder,
            links=links,
            style=f'<link rel="stylesheet" href="{root}assets/{self.digest}/{style}">' if style in self.files else "",
        )
        policy = ENGINE_POLICY_HEADER if page.runs_engine else POLICY_HEADER
        return Answer(200, (HTML_TYPE, policy, (b"vary", b"accept")), text.encode())

    def file(self, digest: str, name: str, accept_encoding: bytes | None) -> Answer | None:
        """Return a file, packed where the caller unpacks it; None where there is none of this name."""
        file = self.files.get(name)
        if file is None:
            return None
        headers = [
            (b"content-type", TYPES[PurePosixPath(name).suffix]),
            POLICY_HEADER,
            FOR_EVER if digest == self.digest else NOT_AT_ALL,
            (b"vary", b"accept-encoding"),
        ]
        if accept_encoding is not None and qualities(accept_encoding).get(b"gzip", 0.0) > 0:
            packed = self._packed_file(name, file)
            if packed is not None:
                return Answer(200, (*headers, (b"content-encoding", b"gzip")), packed)
        content = file.read_bytes()
        return Answer(200, tuple(headers), gzip.decompress(content) if file.suffix == STORED_PACKED else content)

    def answer(self, head: RequestHead, path: str) -> Answer | None:
        """Return what is at `path`, without the prefix of a proxy: a page or a file; None where there is neither."""
        if asset := ASSET.fullmatch(path):
            return self.file(asset["digest"], asset["name"], head.special.get(b"accept-encoding"))
        address = address_of(path, head.special.get(b"accept"))
        return None if address is None else self.page(address.page, path)

    def _packed_file(self, name: str, file: Path) -> bytes | None:
        """Return the file packed, from the second time on without work; None where packing does not pay."""
        if name not in self._packed:
            content = file.read_bytes()
            if file.suffix == STORED_PACKED:
                return content
            pays = len(content) >= LEAST_PACKED_BYTES
            self._packed[name] = gzip.compress(content, 9, mtime=0) if pays else b""
        return self._packed[name] or None


def _current(one: PageFile, page: PageFile) -> str:
    return ' aria-current="page"' if one is page else ""
