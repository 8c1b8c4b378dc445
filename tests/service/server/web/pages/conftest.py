"""Pages as a person sees them: Chromium, driven by Playwright, at the widths of a phone and a desktop, light and dark."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.live import live
from tests.programs import command_of

PHONE, DESKTOP = (390, 844), (1280, 900)
SCREENS = [
    (PHONE, "dark"),
    (DESKTOP, "light"),
]  # each size and each scheme: layout and colours do not depend on each other
SCREEN_IDS = [f"{size[0]} px {scheme}" for size, scheme in SCREENS]
WAIT_MS = 15_000  # a machine with much else to do
expect.set_options(timeout=WAIT_MS)


@dataclass
class Visit:
    """One page in a browser window of its own, and what its console complained about."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Assert what holds for every page: nothing complained, nothing wider than the screen, no barrier that axe finds."""
        assert self.complaints == []
        assert self.page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        found = Axe().run(self.page).response["violations"]
        assert [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found] == []


Open = Callable[..., Visit]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Start the browser; see tests/programs.py for a machine that has none."""
    command = command_of()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=command, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Open]:
    """Return a function that opens an address in a window of its own and waits for the title; `before` gets the empty page."""
    contexts = []

    def visit(
        url: str,
        size: tuple[int, int] = DESKTOP,
        scheme: str = "light",
        before: Callable[[Page], None] = lambda page: None,
    ) -> Visit:
        context = chromium.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, permissions=["clipboard-read"]
        )
        contexts.append(context)
        context.set_default_timeout(WAIT_MS)
        opened = Visit(context.new_page())
        opened.page.on("console", lambda one: opened.complaints.append(one.text) if one.type != "log" else None)
        opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        before(opened.page)
        opened.page.goto(url)
        expect(opened.page.locator("h1").first).to_be_visible()
        return opened

    yield visit
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def penguins_url(penguins_bundle: Path) -> Iterator[str]:
    """Serve the committed model."""
    with live(penguins_bundle.parents[1]) as server:
        yield server.url
