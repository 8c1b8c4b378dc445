"""Try, as a person uses it: values are moved, typed, pasted and dropped; the answer follows, and its bits are proved."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.bundles import make_bundle, reseal
from tests.live import live
from tests.service.server.web.pages.conftest import DESKTOP, SCREEN_IDS, SCREENS, Open

REFUSED = re.compile("status of 422")  # what the browser's console says of an answer that the page shows
ROW = {"island": "Dream", "bill_length_mm": 44.1, "bill_depth_mm": 19.7, "flipper_length_mm": 196}
OTHERS = {"body_mass_g": 4400, "sex": "male"}


@pytest.fixture(scope="module")
def flowers_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve two float32 versions with features of every kind, and a model of 800 features."""
    models = tmp_path_factory.mktemp("models")
    for version in (1, 2):
        make_bundle(models, version=version, seed=version, reference_rows=300)
    wide = [
        {"name": f"f{place:03}", "kind": "numeric", "value_type": "float", "missing": True, "range": [-1.0, 1.0]}
        for place in range(800)
    ]
    make_bundle(models, "wide", inputs=wide)
    few = {"method": "split-conformal", "calibration_rows": 4, "coverages": [0.5, 0.8], "edges": []}
    few |= {"thresholds": [[0.2, 0.4]], "tested": {}}
    reseal(make_bundle(models, "few"), lambda content: content.update(uncertainty=few))
    with live(models, "--versions", "all") as server:
        yield server.url


def shown(page: Page) -> Any:
    """Return where the prediction stands."""
    return page.get_by_role("region", name="Prediction", exact=True)


def ready(page: Page) -> None:
    """Wait until the first answer is there."""
    expect(shown(page).locator(".result")).to_be_visible(timeout=90_000)


def predicted(url: str, row: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = httpx.post(f"{url}/predict", json={"rows": [row]}, timeout=30).json()["predictions"][0]
    return answer


def bits(value: float) -> str:
    return f"{np.float32(value).view(np.uint32):08x}"


def test_the_form_begins_with_a_coverage_that_the_model_has(visit: Open, flowers_url: str) -> None:
    """A model whose calibration rows support no 90 % is first asked for the most that it offers."""
    opened = visit(f"{flowers_url}/models/few/try", DESKTOP)
    ready(opened.page)
    expect(shown(opened.page)).to_contain_text("With 80 % coverage")
    opened.check()


@pytest.mark.parametrize(("size", "scheme"), SCREENS, ids=SCREEN_IDS)
def test_the_row_is_proved(visit: Open, penguins_url: str, size: tuple[int, int], scheme: str) -> None:
    """The same row alone, among strangers and in the browser's engine: the service's bits are shown, and they are equal."""
    opened = visit(f"{penguins_url}/models/penguins/try", size, scheme)
    ready(opened.page)
    expect(shown(opened.page)).to_contain_text("coverage, species is")
    expect(opened.page.get_by_role("region", name="Contributions")).to_contain_text("for a typical row")
    opened.page.get_by_role("button", name="Prove it").click()
    proof = opened.page.get_by_role("region", name="Prove it")
    expect(proof).to_contain_text("All 96 bits of the 3 numbers are equal", timeout=120_000)
    row = httpx.get(f"{penguins_url}/models/penguins").json()["example"]["rows"][0]
    for value in predicted(penguins_url, row)["probabilities"].values():
        expect(proof.get_by_text(bits(value))).to_have_count(3)
    opened.check()


def test_a_slider_moves_the_prediction(visit: Open, penguins_url: str) -> None:
    """Keys move a slider; the number beside it, the answer and the contributions follow."""
    opened = visit(f"{penguins_url}/models/penguins/try")
    page = opened.page
    ready(page)
    page.get_by_label("island", exact=True).select_option("Torgersen")
    slider = page.get_by_role("slider", name="bill_length_mm, slider")
    slider.focus()
    page.keyboard.press("Home")
    least = float(page.get_by_label("bill_length_mm", exact=True).input_value())
    expect(shown(page)).to_contain_text("Adelie")
    page.keyboard.press("End")
    assert float(page.get_by_label("bill_length_mm", exact=True).input_value()) > least
    page.get_by_label("bill_length_mm", exact=True).fill("500")
    expect(page.get_by_text("outside the training range")).to_be_visible()
    page.get_by_label("bill_length_mm is missing").check()
    expect(page.get_by_text("outside the training range")).to_have_count(0)
    page.get_by_label("island", exact=True).select_option("another value…")
    page.get_by_label("island, another value").fill("Tresco")
    expect(page.get_by_text("unseen in training")).to_be_visible()
    opened.check()


def test_a_refusal_stands_at_its_field(visit: Open, penguins_url: str) -> None:
    """What the service refuses is said where it was typed, and is gone with the next value that fits."""
    opened = visit(f"{penguins_url}/models/penguins/try")
    page = opened.page
    ready(page)
    field = page.get_by_label("body_mass_g", exact=True)
    field.fill("4,4 kg")
    expect(page.locator(".field", has=field).get_by_role("alert")).to_contain_text("Expected a number, got a string.")
    assert field.get_attribute("aria-invalid") == "true"
    field.fill("4400")
    expect(page.get_by_role("alert")).to_have_count(0)
    assert [one for one in opened.complaints if not REFUSED.search(one)] == []


def test_rows_are_pasted_and_dropped(visit: Open, penguins_url: str, tmp_path: Path) -> None:
    """A row as JSON, lines of CSV and a file fill the form; the answer is the service's; what is none is said."""
    opened = visit(f"{penguins_url}/models/penguins/try")
    page = opened.page
    ready(page)
    row = {**ROW, **OTHERS}
    page.get_by_role("button", name="Paste a row").click()
    page.get_by_label("A row as JSON, or CSV lines with their header").fill(json.dumps({"rows": [row]}))
    page.get_by_role("button", name="Use it").click()
    expect(page.get_by_label("flipper_length_mm", exact=True)).to_have_value("196")
    expect(shown(page)).to_contain_text(predicted(penguins_url, row)["label"])

    page.get_by_role("button", name="Paste a row").click()
    page.get_by_label("A row as JSON, or CSV lines with their header").fill("a,b\n1,2")
    page.get_by_role("button", name="Use it").click()
    expect(page.get_by_role("alert")).to_contain_text("The first line names no feature")

    table = tmp_path / "some.csv"
    table.write_text("sex,island,bill_length_mm,bill_depth_mm,flipper_length_mm,body_mass_g,note\n"
                     'male,Dream,50,19.1,201,3900,"a, b"\nNA,Biscoe,47.5,14.2,213,5200,c\n')  # fmt: skip
    page.locator("input[type=file]").set_input_files(table)
    expect(page.get_by_text("Row 1 of 2")).to_be_visible()
    expect(page.get_by_label("body_mass_g", exact=True)).to_have_value("3900")
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_label("sex is missing")).to_be_checked()
    expect(shown(page)).to_contain_text("Gentoo")
    opened.check()


def test_versions_stand_side_by_side_and_float32_is_not_proved_here(visit: Open, flowers_url: str) -> None:
    """The other version's numbers stand beside; a float32 model that this engine does not reproduce says so."""
    opened = visit(f"{flowers_url}/models/flowers/try")
    page = opened.page
    ready(page)
    versions = page.get_by_role("region", name="Versions side by side")
    expect(versions.get_by_role("row")).to_have_count(4, timeout=60_000)
    expect(versions).to_contain_text("version 1")
    page.get_by_role("button", name="Prove it").click()
    proof = page.get_by_role("region", name="Prove it")
    expect(proof.get_by_role("row")).to_have_count(5, timeout=120_000)
    expect(proof.locator(".note")).to_have_count(2, timeout=120_000)
    text = proof.inner_text()
    assert "are equal alone, among" in text
    assert "in this browser" not in text or "the bits must be equal" in text or "and in this browser" in text
    page.locator("#what-if select").select_option("grade")
    expect(page.get_by_role("region", name="What if")).to_contain_text("now")
    opened.check()


def test_800_features_stay_usable(visit: Open, flowers_url: str) -> None:
    """A few fields are drawn at a time, found by their name; an explanation waits until somebody asks for it."""
    opened = visit(f"{flowers_url}/models/wide/try", DESKTOP, "dark")
    page = opened.page
    ready(page)
    assert page.locator(".field").count() == 30
    page.get_by_label("Search features").fill("f79")
    expect(page.locator(".field")).to_have_count(10)
    page.get_by_label("f795", exact=True).fill("nothing")
    expect(page.locator(".field").get_by_role("alert")).to_contain_text("Expected a number")
    page.get_by_label("f795", exact=True).fill("0.5")
    expect(page.get_by_role("button", name="Explain")).to_be_visible()
    assert [one for one in opened.complaints if not REFUSED.search(one)] == []
