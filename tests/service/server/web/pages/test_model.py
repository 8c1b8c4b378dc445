"""A model's page, as a person uses it: features, metrics, certificate and requests are read, chosen and copied."""

import json
import re
import zipfile
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from tests.bundles import make_bundle, reseal
from tests.live import live
from tests.service.server.web.pages.conftest import SCREEN_IDS, SCREENS, Open


@pytest.mark.parametrize(("size", "scheme"), SCREENS, ids=SCREEN_IDS)
def test_a_model_is_read(visit: Open, penguins_url: str, size: tuple[int, int], scheme: str) -> None:
    """Each feature has its values and its distribution, metrics have intervals, the certificate says what was compared."""
    opened = visit(f"{penguins_url}/models/penguins", size, scheme)
    features = opened.page.get_by_role("region", name="Features, table")
    expect(features.get_by_text("bill_length_mm")).to_be_visible()
    expect(features).to_contain_text("32.1 to 54.3")
    expect(features.get_by_role("img").first).to_have_accessible_name("Biscoe: 50 %, Dream: 34 %, Torgersen: 15 %")
    detail = httpx.get(f"{penguins_url}/models/penguins", timeout=60).json()
    metrics = opened.page.get_by_role("region", name="Metrics")
    expect(metrics).to_contain_text(f"{100 * detail['metrics']['accuracy']:.1f}")
    expect(metrics).to_contain_text("95 % interval 92.2")
    certificate = opened.page.get_by_role("region", name="Certificate")
    expect(certificate).to_contain_text("Proved")
    expect(certificate).to_contain_text(detail["fingerprint"]["sha256"])
    opened.check()


@pytest.mark.parametrize("language", ["curl", "Python", "JavaScript"])
def test_a_request_is_copied_in_each_language(visit: Open, penguins_url: str, language: str) -> None:
    """What is copied has the example row and an address of this service."""
    opened = visit(f"{penguins_url}/models/penguins")
    requests = opened.page.get_by_role("region", name="Requests")
    requests.get_by_role("button", name=language, exact=True).click()
    requests.get_by_role("button", name="Copy", exact=True).first.click()
    copied = opened.page.evaluate("navigator.clipboard.readText()")
    assert penguins_url in copied
    row = httpx.get(f"{penguins_url}/models/penguins", timeout=60).json()["example"]["rows"][0]
    assert all(json.dumps(name) in copied for name in row)
    if language == "Python":
        compile(copied, "copied", "exec")


def test_the_bundle_is_downloaded(visit: Open, penguins_url: str, penguins_bundle: Path) -> None:
    """One click saves an archive with the files that are served."""
    opened = visit(f"{penguins_url}/models/penguins")
    with opened.page.expect_download() as saved:
        opened.page.get_by_role("button", name="Download the bundle").click()
    assert saved.value.suggested_filename == "penguins-1.zip"
    with zipfile.ZipFile(saved.value.path()) as archive:
        assert archive.read("penguins/1/model.onnx") == (penguins_bundle / "model.onnx").read_bytes()
    assert opened.complaints == []


def test_a_bundle_that_is_not_shared_is_said(visit: Open, penguins_bundle: Path) -> None:
    """Who may not have the model reads which setting allows it."""
    with live(penguins_bundle.parents[1], "--share-bundles", "no") as server:
        opened = visit(f"{server.url}/models/penguins")
        opened.page.get_by_role("button", name="Download the bundle").click()
        expect(opened.page.get_by_role("alert")).to_contain_text("the setting share_bundles allows it")


def test_metrics_have_the_intervals_of_the_bundle(visit: Open, tmp_path: Path) -> None:
    """Each metric for which training measured an interval shows it, in the unit of the metric."""
    metrics = {
        "rows": 800,
        "accuracy": 0.9,
        "log_loss": 0.3,
        "intervals": {"accuracy": [0.88, 0.92], "log_loss": [0.25, 0.35]},
    }
    reseal(make_bundle(tmp_path), lambda content: content.update(metrics=metrics))
    with live(tmp_path) as server:
        shown = visit(f"{server.url}/models/flowers").page.get_by_role("region", name="Metrics")
        expect(shown.get_by_role("row", name="Accuracy")).to_contain_text(re.compile(r"95 % interval 88\s% to 92\s%"))
        expect(shown.get_by_role("row", name="Log loss")).to_contain_text("95 % interval 0.25 to 0.35")


def test_versions_stand_side_by_side(visit: Open, tmp_path: Path) -> None:
    """Another version is chosen in place, and its metrics and data stand beside those of the first."""
    make_bundle(tmp_path, version=1)
    make_bundle(tmp_path, version=2)
    with live(tmp_path, "--versions", "all") as server:
        opened = visit(f"{server.url}/models/flowers")
        beside = opened.page.get_by_role("region", name="Versions side by side")
        expect(beside.get_by_role("columnheader")).to_have_count(2)
        opened.page.get_by_role("button", name="Version 1").click()
        expect(opened.page.get_by_text("/models/flowers/versions/1/predict").first).to_be_visible()
        assert opened.page.url.endswith("/models/flowers/versions/1")
        opened.check()


def test_many_features_are_searched(visit: Open, tmp_path: Path) -> None:
    """Of 800 features a part of a name leaves the few that have it."""
    inputs = [
        {"name": f"sensor_{number:03}", "kind": "numeric", "value_type": "float", "missing": False, "typical": 0.5}
        for number in range(800)
    ]
    make_bundle(tmp_path, inputs=inputs)
    with live(tmp_path) as server:
        opened = visit(f"{server.url}/models/flowers")
        opened.page.get_by_role("searchbox", name="Search features").fill("sensor_77")
        expect(opened.page.get_by_role("region", name="Features, table").get_by_role("row")).to_have_count(11)
        opened.check()


def test_a_model_that_is_not_there_is_said(visit: Open, penguins_url: str) -> None:
    """A wrong name gets the nearest one, as a program does."""
    opened = visit(f"{penguins_url}/models/pengins")
    expect(opened.page.get_by_role("alert")).to_contain_text("Did you mean 'penguins'")
