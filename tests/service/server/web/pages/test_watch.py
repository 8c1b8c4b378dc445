"""Watch, as a person uses it: what the service does is seen while it happens."""

import re
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from tests.live import live
from tests.service.server.web.pages.conftest import SCREEN_IDS, SCREENS, Open


@pytest.fixture(scope="module")
def row(penguins_url: str) -> dict[str, object]:
    """Return a body that is answered."""
    body: dict[str, object] = httpx.get(f"{penguins_url}/models/penguins", timeout=60).json()["example"]
    return body


@pytest.mark.parametrize(("size", "scheme"), SCREENS, ids=SCREEN_IDS)
def test_traffic_is_seen_as_it_comes(
    visit: Open, penguins_url: str, row: dict[str, object], size: tuple[int, int], scheme: str
) -> None:
    """Requests, their latency and their refusals by code appear within seconds, on every screen."""
    opened = visit(f"{penguins_url}/watch", size, scheme)
    expect(opened.page.locator(".figures")).to_contain_text("0/s")
    for _ in range(20):
        assert httpx.post(f"{penguins_url}/predict", json=row, timeout=60).status_code == 200
    assert httpx.post(f"{penguins_url}/predict", json={"rows": [{}]}, timeout=60).status_code == 422
    expect(opened.page.locator(".figures > div").filter(has_text="p99")).to_contain_text(
        re.compile(r"p99[\d.]+\s[mµ]?s")
    )
    expect(opened.page.get_by_role("region", name="Refusals by code")).to_contain_text("invalid rows")
    expect(opened.page.get_by_role("region", name="Audits, reloads, events")).to_contain_text(
        re.compile("no audit yet|bits held")
    )
    expect(opened.page.get_by_role("img", name="Latency: p50")).to_be_visible()
    opened.check()


def test_a_service_that_ends_is_said(visit: Open, penguins_bundle: Path) -> None:
    """What was seen stays, with the sentence that no answer comes any more."""
    with live(penguins_bundle.parents[1]) as server:
        opened = visit(f"{server.url}/watch")
        expect(opened.page.locator(".figures")).to_be_visible()
    expect(opened.page.get_by_text("The service cannot be reached")).to_be_visible()
