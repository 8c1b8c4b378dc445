"""Watch, as a person uses it: what the service does is seen while it happens."""

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect

from tests.bundles import make_bundle
from tests.live import live
from tests.service.server.web.pages.conftest import SCREEN_IDS, SCREENS, Open

FOUND_MS = 150_000  # a search loads the model in a process of its own, and gives way to others


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


@pytest.fixture(scope="module")
def journalled(penguins_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the committed model with a journal that holds one request, of three rows."""
    folder = tmp_path_factory.mktemp("journal")
    with live(
        penguins_bundle.parents[1], "--journal", str(folder), "--journal-full", "refuse", "--journal-search", "yes"
    ) as server:
        (known,) = httpx.get(f"{server.url}/models/penguins", timeout=60).json()["example"]["rows"]
        rows = [known, {**known, "body_mass_g": 9000}, {**known, "island": "Nowhere", "sex": None}]
        sent = {"x-request-id": "loan-4711"}
        answer = httpx.post(f"{server.url}/predict", json={"rows": rows}, headers=sent, timeout=60)
        assert answer.status_code == 200
        yield server.url


@pytest.mark.parametrize(("size", "scheme"), SCREENS, ids=SCREEN_IDS)
def test_a_request_is_looked_up(visit: Open, journalled: str, size: tuple[int, int], scheme: str) -> None:
    """An id that is typed shows each row's values, answer and bits, and that they are equal again; the page can be kept."""
    opened = visit(f"{journalled}/watch", size, scheme)
    card = opened.page.get_by_role("region", name="Look a request up")
    card.get_by_label("Request id").fill("loan-4711")
    card.get_by_role("button", name="Find").click()
    expect(card.get_by_role("heading", name="loan-4711")).to_be_visible(timeout=FOUND_MS)
    expect(card.get_by_text("bits equal")).to_have_count(3)
    expect(card).to_contain_text("every bit of the answer is the same: alone, and in a batch of 67 rows")
    expect(card.get_by_role("region", name="Values of row 0, table")).to_contain_text("bill_length_mm")
    expect(card.get_by_role("region", name="Outputs of row 0 and their bits")).to_contain_text(
        re.compile("[0-9a-f]{24}")
    )
    card.get_by_text("Row 1").click()
    expect(card).to_contain_text("outside the range of training, 2700 to 6300")
    card.get_by_text("Row 2").click()
    expect(card).to_contain_text("a category that training did not see")
    opened.check()
    if (size, scheme) == SCREENS[0]:
        with opened.page.expect_download(timeout=FOUND_MS) as download:
            card.get_by_role("button", name="Save as a page").click()
        assert download.value.suggested_filename == "decision-loan-4711.html"
        assert "<h1>Decision loan-4711</h1>" in Path(download.value.path()).read_text(encoding="utf-8")


def test_one_row_and_a_wrong_id(visit: Open, journalled: str) -> None:
    """A row is chosen by its number; an id that is not there is said, in place of what was shown before."""
    opened = visit(f"{journalled}/watch")
    card = opened.page.get_by_role("region", name="Look a request up")
    card.get_by_label("Request id").fill("loan-4711")
    card.get_by_text("One row, or some days").click()
    card.get_by_label("Row, from 0").fill("2")
    card.get_by_label("From this day (UTC)").fill("2020-01-01")
    card.get_by_role("button", name="Find").click()
    expect(card.get_by_text("bits equal")).to_have_count(1, timeout=FOUND_MS)
    expect(card).to_contain_text("Row 2")
    card.get_by_label("Request id").fill("loan-4712")
    card.get_by_role("button", name="Find").click()
    expect(card).to_contain_text("The journal holds no row 2 of a request 'loan-4712'", timeout=FOUND_MS)
    expect(card.get_by_text("bits equal")).to_have_count(0)


def test_without_a_journal_there_is_no_form(visit: Open, penguins_url: str) -> None:
    """A service that keeps no journal offers no search."""
    opened = visit(f"{penguins_url}/watch")
    expect(opened.page.locator(".figures")).to_be_visible()
    expect(opened.page.get_by_label("Request id")).to_have_count(0)


def counts_of(url: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{url}/metrics", headers={"accept": "application/json"}, timeout=60).json()
    return found


def compared(url: str) -> dict[str, Any]:
    """Return the counts of the comparison of `flowers` with its challenger."""
    (found,) = (model["shadows"]["2"] for model in counts_of(url)["models"] if model["shadows"])
    counts: dict[str, Any] = found
    return counts


@pytest.fixture(scope="module")
def shadowed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve a version with a challenger that has run on at least twelve rows, after one reload."""
    models = tmp_path_factory.mktemp("models")
    for version in (1, 2):
        make_bundle(models, version=version, seed=version)
    with live(models, "--shadow", "flowers=2", "--shadow-share", "1") as server:
        row = httpx.get(f"{server.url}/models/flowers", timeout=60).json()["example"]["rows"][0]
        sent = 0
        while sent < 12 or compared(server.url)["rows"] < 12:  # a comparison is skipped while rows wait
            body = {"rows": [{**row, "length_mm": 30.0 + sent % 30}]}
            assert httpx.post(f"{server.url}/predict", json=body, timeout=60).status_code == 200
            sent += 1
        make_bundle(models, "another")
        os.kill(server.process.pid, signal.SIGHUP)
        while counts_of(server.url)["reloads"].get("ok") != 1:
            time.sleep(0.05)
        yield server.url


@pytest.mark.parametrize(("size", "scheme"), SCREENS, ids=SCREEN_IDS)
def test_a_challenger_is_compared(visit: Open, shadowed: str, size: tuple[int, int], scheme: str) -> None:
    """The card of a challenger counts the rows compared and the labels changed, and shows how far the answers are apart."""
    opened = visit(f"{shadowed}/watch", size, scheme)
    card = opened.page.get_by_role("region", name="flowers: version 1 and challenger 2")
    counts = compared(shadowed)
    expect(card).to_contain_text(re.compile(rf"Rows compared\s*{counts['rows']}(?!\d)"))
    expect(card).to_contain_text(re.compile(rf"Another label\s*{counts['labels_changed']} \([\d.]+\s%\)"))
    batches, dropped, failed = (counts[name] for name in ("batches", "dropped", "failed"))
    expect(card).to_contain_text(f"{batches} compared, {dropped} dropped, {failed} failed")
    expect(card.get_by_role("list", name="Rows by difference")).to_be_visible()
    health = opened.page.get_by_role("region", name="Audits, reloads, events")
    expect(health).to_contain_text(re.compile(r"Reloads\s*1 done, 0 refused"))
    opened.check()


def test_a_service_that_ends_is_said(visit: Open, penguins_bundle: Path) -> None:
    """What was seen stays, with the sentence that no answer comes any more."""
    with live(penguins_bundle.parents[1]) as server:
        opened = visit(f"{server.url}/watch")
        expect(opened.page.locator(".figures")).to_be_visible()
    expect(opened.page.get_by_text("The service cannot be reached")).to_be_visible()
