"""The API page: Swagger UI under our policy, searched, tried and authorized by hand."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from batchproof.service.access import keys_file
from tests.bundles import make_bundle
from tests.live import live
from tests.service.server.web.pages.conftest import SCREEN_IDS, SCREENS, Open


@pytest.mark.parametrize(("size", "scheme"), SCREENS, ids=SCREEN_IDS)
def test_an_operation_is_found_and_read(visit: Open, penguins_url: str, size: tuple[int, int], scheme: str) -> None:
    """Words of a path or a summary leave the operations that have them; one opens, and everybody can read it."""
    opened = visit(f"{penguins_url}/docs", size, scheme)
    search = opened.page.get_by_role("textbox", name="Search the operations")
    search.fill("versions infer")
    operations = opened.page.locator(".opblock")
    expect(operations).to_have_count(1)
    expect(operations).to_contain_text("/v2/models/penguins/versions/1/infer")
    search.fill("describe newest")
    expect(operations).to_contain_text("/models/{name}")
    operations.locator(".opblock-summary-control").click()
    expect(operations.get_by_role("button", name="Execute")).to_be_visible()
    opened.check()


def test_of_many_models_one_is_shown(visit: Open, tmp_path: Path) -> None:
    """Thousands of operations would take the browser seconds: the first model's stand there until another is chosen."""
    names = [f"model-{number:02}" for number in range(11)]
    for name in names:
        make_bundle(tmp_path, name)
    with live(tmp_path) as server:
        opened = visit(f"{server.url}/docs")
        operations = opened.page.locator(".opblock")
        expect(operations.filter(has_text="/models/model-00/predict")).to_have_count(1)
        expect(operations.filter(has_text="model-07")).to_have_count(0)
        opened.page.locator(".tools select").select_option("model-07")
        expect(operations.filter(has_text="/models/model-07/predict")).to_have_count(1)
        expect(operations.filter(has_text="model-00")).to_have_count(0)
        opened.page.goto(f"{server.url}/docs?model=model-03")
        expect(operations.filter(has_text="/models/model-03/predict")).to_have_count(1)


def test_a_prediction_is_tried(visit: Open, penguins_url: str) -> None:
    """The example that stands in the form is sent, and the answer is shown."""
    opened = visit(f"{penguins_url}/docs")
    operation = opened.page.locator(".opblock", has_text="/models/penguins/predict").first
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table")).to_contain_text("predictions")
    assert opened.complaints == []


def test_the_key_of_the_tab_is_used(visit: Open, tmp_path: Path) -> None:
    """With keys, the document asks for a bearer, and what is tried carries the key that was entered."""
    make_bundle(tmp_path / "models")
    secret = keys_file.new_key()
    key = keys_file.Key(name="a", sha256=keys_file.digest_of(secret), scopes=("read", "predict"))
    (tmp_path / "keys.toml").write_text(keys_file.entry_text(key))
    with live(tmp_path / "models", "--keys-file", str(tmp_path / "keys.toml")) as server:
        opened = visit(f"{server.url}/docs")
        opened.page.get_by_role("button", name="Enter a key").click()
        opened.page.get_by_label("Key or token").fill(secret)
        opened.page.get_by_role("button", name="Use this key").click()
        expect(opened.page.get_by_role("button", name="Authorize")).to_be_visible()
        operation = opened.page.locator(".opblock", has_text="/models/flowers/predict").first
        operation.locator(".opblock-summary-control").click()
        operation.get_by_role("button", name="Execute").click()
        expect(operation.locator(".live-responses-table")).to_contain_text("predictions")
