"""Start, as a person uses it: what is served is seen, searched, copied, and what it needs a key for is asked for."""

import json
import re
import shutil
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.bundles import make_bundle
from tests.live import live
from tests.service.server.web.pages.conftest import SCREEN_IDS, SCREENS, Open


@pytest.mark.parametrize(("size", "scheme"), SCREENS, ids=SCREEN_IDS)
def test_what_is_served_is_seen(visit: Open, penguins_url: str, size: tuple[int, int], scheme: str) -> None:
    """Each model with its version and verdict, at the width of a phone and of a desktop, light and dark."""
    row = json.loads(httpx.get(f"{penguins_url}/models/penguins", timeout=60).text)["example"]
    assert httpx.post(f"{penguins_url}/predict", json=row, timeout=60).status_code == 200
    opened = visit(penguins_url, size, scheme)
    served = opened.page.get_by_role("region", name="Served models")
    expect(served.get_by_role("link", name="penguins", exact=True)).to_be_visible()
    expect(served).to_contain_text("Proved")
    expect(opened.page.get_by_text("Every row gets the same answer, bit for bit")).to_be_visible()
    expect(opened.page.get_by_text("Ready", exact=True)).to_be_visible()
    expect(opened.page.locator(".figures")).to_contain_text("p99")
    opened.check()


def test_the_example_is_copied_and_works(visit: Open, penguins_url: str) -> None:
    """The request that is copied is answered as it stands."""
    opened = visit(penguins_url)
    opened.page.get_by_role("button", name="Copy").click()
    expect(opened.page.get_by_role("button", name="Copied")).to_be_visible()
    command = opened.page.evaluate("navigator.clipboard.readText()")
    _, url, _, body = command.split(" ", 3)
    assert httpx.post(url, content=body.strip("'")).json()["predictions"]


def test_a_thousand_models_are_searched(visit: Open, penguins_url: str) -> None:
    """Of many models a page is drawn, and a few words leave those that have them.

    The list of a service with one model is lengthened on its way to the browser: the page is what is tested here.
    """
    listed = httpx.get(f"{penguins_url}/models", timeout=60).json()
    model = listed["models"][0]
    listed["models"] = [{**model, "name": f"model-{number}", "default": number == 0} for number in range(1000)]

    def lengthen(page: Page) -> None:
        page.route(re.compile(r"/models$"), lambda route: route.fulfill(json=listed))
        page.route(
            re.compile(r"/models/model-0$"), lambda route: route.continue_(url=f"{penguins_url}/models/penguins")
        )

    opened = visit(penguins_url, before=lengthen)
    served = opened.page.get_by_role("region", name="Served models").get_by_role("row")
    expect(opened.page.locator(".figures")).to_contain_text(re.compile(r"Models1\s000"))
    expect(served).to_have_count(1 + 50)
    opened.page.get_by_role("button", name="Next").click()
    expect(served.nth(1)).to_contain_text("model-50")
    opened.page.get_by_role("searchbox", name="Search by name, label or target").fill("model-777")
    expect(served).to_have_count(2)
    expect(served.nth(1)).to_contain_text("model-777")
    opened.check()


def test_what_was_refused_says_why(visit: Open, tmp_path: Path) -> None:
    """A bundle that is not served stands above those that are, with the reason."""
    bundle = make_bundle(tmp_path, "alpha")
    shutil.copytree(bundle, tmp_path / "broken" / "1")
    with live(tmp_path) as server:
        opened = visit(server.url)
        expect(opened.page.get_by_role("region", name="Refused bundles")).to_contain_text("broken")
        opened.check()


def test_a_key_is_asked_for_and_kept_in_the_tab(visit: Open, tmp_path: Path) -> None:
    """Without a key the page says what it needs; with one it shows what the key opens, also after a reload."""
    from batchproof.service.access import keys_file

    make_bundle(tmp_path / "models")
    secret = keys_file.new_key()
    key = keys_file.Key(name="a", sha256=keys_file.digest_of(secret), scopes=("read", "metrics"))
    (tmp_path / "keys.toml").write_text(keys_file.entry_text(key))
    with live(tmp_path / "models", "--keys-file", str(tmp_path / "keys.toml")) as server:
        opened = visit(server.url)
        expect(opened.page.get_by_role("alert")).to_contain_text("the service asks for a key")
        opened.page.get_by_role("button", name="Enter a key").click()
        opened.page.get_by_label("Key or token").fill(secret)
        opened.page.get_by_role("button", name="Use this key").click()
        row = opened.page.get_by_role("link", name="flowers", exact=True)
        expect(row).to_be_visible()
        opened.page.reload()
        expect(row).to_be_visible()
        assert opened.page.evaluate("localStorage.length + document.cookie.length") == 0
