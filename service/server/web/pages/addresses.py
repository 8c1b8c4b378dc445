"""Which address shows which page. A new page is a folder in `web/static` with its `page.js`, and one entry here.

A page is a file of the program that says nothing about this service, so it needs no key. Its script fetches what it shows
with the key of the person who looks at it.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

from batchproof.service.protocols.accept import preferred

NAME = r"[^/:]+"
HTML, JSON = "text/html", "application/json"
READING = ("GET", "HEAD")
ASSET = re.compile(r"/assets/(?P<digest>[0-9a-f]{16})/(?P<name>[\w./-]+\.(?:css|js|mjs|svg|wasm))")


@dataclass(frozen=True)
class PageFile:
    """One page: its folder, its title, the pattern of its addresses, and its place in the navigation."""

    folder: str
    title: str
    path: str  # a pattern of the path
    link: str | None = None  # its address in the navigation, relative to the root
    offered: tuple[str, ...] = (HTML,)  # what the address answers with: the first where Accept has no preference
    runs_engine: bool = False  # whether its script compiles WebAssembly, which a policy must allow


PAGES = (
    PageFile("start", "Models", r"/|/models", "./", (HTML, JSON)),
    PageFile("model", "Model", rf"/models/{NAME}(/versions/[1-9][0-9]*)?", None, (JSON, HTML)),
    PageFile("try", "Try", rf"/models/{NAME}(/versions/[1-9][0-9]*)?/try", runs_engine=True),
    PageFile("score", "Score a file", rf"/models/{NAME}(/versions/[1-9][0-9]*)?/score"),
    PageFile("watch", "Watch", r"/watch", "watch"),
    PageFile("docs", "API", r"/docs", "docs"),
)
PATTERNS = tuple((re.compile(page.path), page) for page in PAGES)


class Address(NamedTuple):
    """What a path of the pages means."""

    page: PageFile
    is_wanted: bool  # whether the page is what the caller prefers there; otherwise the JSON at the same address is


def address_of(path: str, accept: bytes | None) -> Address | None:
    """Return the page at a path and whether Accept prefers it to other forms of the same address; None for no page."""
    for pattern, page in PATTERNS:
        if pattern.fullmatch(path):
            offered = (JSON, HTML) if path == "/models" else page.offered
            return Address(page, len(offered) == 1 or preferred(accept, offered) == HTML)
    return None
